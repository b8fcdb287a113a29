"""Whether two measurements put the same things in the same order: rank correlation.

Shapes: n things, such as cells, each measured twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oche.analysis.summary import ENOUGH, CannotSay


@dataclass(frozen=True)
class Association:
    """``kendall``: τ_b, 1 for the same order, -1 for the opposite, near 0 for none; ``spearman``: ρ, the same by ranks."""

    n: int
    kendall: float
    spearman: float


def associate(x: Sequence[float], y: Sequence[float]) -> Association | CannotSay:
    """Kendall's τ_b and Spearman's ρ of ``x`` and ``y``, by scipy. It cannot be said of fewer than 3, or of equal values."""
    if len(x) < ENOUGH:
        return CannotSay(f"{len(x)} are too few for a rank correlation; it takes {ENOUGH}")
    if len({*x}) == 1 or len({*y}) == 1:
        return CannotSay("all values of one side are equal, so they have no order")
    from scipy import stats

    found: list[Any] = [stats.kendalltau(x, y), stats.spearmanr(x, y)]
    return Association(len(x), *(float(test.statistic) for test in found))
