"""Values that change over the part of the search that is running, as functions of its progress in [0, 1]."""

from __future__ import annotations

from math import inf

from oche.core.errors import OcheError

Ends = tuple[float, float]  # (value at progress 0, value at progress 1); equal ends: a constant


def linear(ends: Ends, progress: float) -> float:
    """The value at ``progress`` on the straight line between ``ends``; beyond [0, 1] it stays at them.

    Deviation 1 from the published codes, whose schedules move once an epoch: it moves every step.
    """
    start, end = ends
    if isinstance(progress, float | int):
        return start + (end - start) * min(max(progress, 0.0), 1.0)
    return start + (end - start) * progress.clamp(0.0, 1.0)  # a tensor, in a step that a graph replays


def check_ends(name: str, ends: Ends, *, positive: bool) -> None:
    """Raises `OcheError` unless both ends are finite and not negative (``positive``: nor zero)."""
    if not all(0 <= value < inf and (value > 0 or not positive) for value in ends):
        bound = "> 0" if positive else ">= 0"
        raise OcheError(f"{name}={ends} is no schedule; write its value at the start and at the end, both {bound}")
