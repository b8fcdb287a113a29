"""Rank correlation: how far two measurements of the same things agree in their order.

Shapes: n things, such as cells, each measured twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oche.analysis.summary import MIN_VALUES, Undetermined


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's τ_b and Spearman's ρ of ``n`` pairs: 1 for the same order, -1 for the opposite one, near 0 for unrelated ones."""

    n: int
    kendall: float
    spearman: float


def correlate_ranks(x: Sequence[float], y: Sequence[float]) -> RankCorrelation | Undetermined:
    """Return Kendall's τ_b and Spearman's ρ of ``x`` (n,) and ``y`` (n,), by scipy.

    `Undetermined` for fewer than 3 pairs, or where all values of one side are equal.
    """
    if len(x) < MIN_VALUES:
        return Undetermined(f"{len(x)} are too few for a rank correlation; it takes {MIN_VALUES}")
    if len({*x}) == 1 or len({*y}) == 1:
        return Undetermined("all values of one side are equal, so they have no order")
    from scipy import stats

    found: list[Any] = [stats.kendalltau(x, y), stats.spearmanr(x, y)]
    return RankCorrelation(len(x), *(float(test.statistic) for test in found))
