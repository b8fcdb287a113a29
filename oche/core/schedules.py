"""Schedules: values and learning rates as functions of progress in [0, 1].

Progress is the share of the budget that has been used, so a schedule fits any budget, in epochs, steps or time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf

from oche.core.errors import OcheError
from oche.core.registry import component

Ends = tuple[float, float]  # (value at progress 0, value at progress 1); equal ends make a constant


def linear(ends: Ends, progress: float) -> float:
    """Return the value at ``progress`` on the straight line between ``ends``. Outside [0, 1] it stays at the nearer end.

    ``progress`` may be a tensor, in a step that a CUDA graph replays.

    Deviation 1 from the published codes, whose schedules move once an epoch: it moves every step.
    """
    start, end = ends
    if isinstance(progress, float | int):
        return start + (end - start) * min(max(progress, 0.0), 1.0)
    return start + (end - start) * progress.clamp(0.0, 1.0)


def geometric(ends: Ends, progress: float) -> float:
    """Return the value at ``progress`` of a geometric change between ``ends``, both above 0. Outside [0, 1] as `linear`."""
    start, end = ends
    return start * (end / start) ** linear((0.0, 1.0), progress)


def check_ends(name: str, ends: Ends, *, positive: bool) -> None:
    """Raise `OcheError` unless both ends are finite and at least 0 (with ``positive``: above 0)."""
    if not all(0 <= value < inf and (value > 0 or not positive) for value in ends):
        bound = "> 0" if positive else ">= 0"
        raise OcheError(f"{name}={ends} is not a schedule; write its value at the start and at the end, both {bound}")


# --- learning rates -----------------------------------------------------------------------------------------------------


def cosine(start: float, end: float, progress: float) -> float:
    """Return the value at ``progress`` of half a cosine from ``start`` at progress 0 to ``end`` at 1 (1608.03983).

    Deviation 1 from the published code: it moves every step, not every epoch.
    """
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


class Schedule(ABC):
    """A learning-rate schedule. Register your own as a component; then ``--train.w.schedule NAME`` selects it."""

    @abstractmethod
    def __call__(self, lr: float, lr_min: float, progress: float) -> float:
        """Return the rate at ``progress``. ``lr`` is the largest rate, ``lr_min`` the rate at the end."""

    @property
    def falling(self) -> bool:
        """Whether the schedule needs an ``lr_min`` above 0, because it multiplies the rate by a factor."""
        return False


@dataclass(frozen=True)
class _Warmed(Schedule):
    """A schedule whose rate first rises linearly from 0 to ``lr``, then falls to ``lr_min``."""

    warmup: float = 0.0
    """share of the budget in which the rate rises linearly from 0; above 0 it helps large rates and batches (1706.02677)"""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise OcheError(f"warmup={self.warmup} leaves none of the budget to anneal in; use 0 <= warmup < 1")

    def __call__(self, lr: float, lr_min: float, progress: float) -> float:
        if progress < self.warmup:
            return lr * progress / self.warmup
        return self.fall(lr, lr_min, (progress - self.warmup) / (1 - self.warmup))

    @abstractmethod
    def fall(self, lr: float, lr_min: float, progress: float) -> float:
        """Return the rate at ``progress`` of the falling part: ``lr`` at 0, ``lr_min`` at 1."""


@component
@dataclass(frozen=True)
class Cosine(_Warmed):
    """Half a cosine from lr to lr_min (1608.03983), after a linear rise if asked for."""

    def fall(self, lr: float, lr_min: float, progress: float) -> float:
        return cosine(lr, lr_min, progress)


@component
@dataclass(frozen=True)
class OneCycle(_Warmed):
    """One linear rise and one linear fall (1708.07120 §3).

    Deviation 1 from it: the momentum stays constant, and there is no final phase of its own for the smallest rates.
    """

    warmup: float = 0.25
    """share of the budget in which the rate rises linearly from 0"""

    def fall(self, lr: float, lr_min: float, progress: float) -> float:
        return lr + (lr_min - lr) * progress


@component
@dataclass(frozen=True)
class Exponential(_Warmed):
    """The rate falls by the same factor in every step, from lr to lr_min.

    Deviation 2 from codes that multiply once an epoch, by 0.97, say: it moves every step, and lr_min gives the end. With
    250 epochs and lr_min = 0.97^250 · lr the rate after each epoch is theirs.
    """

    @property
    def falling(self) -> bool:
        """True: a factor never leads to 0."""
        return True

    def fall(self, lr: float, lr_min: float, progress: float) -> float:
        return lr * (lr_min / lr) ** progress
