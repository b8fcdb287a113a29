"""Several groups compared at once by their ranks: Friedman's test and Nemenyi's critical difference (Demšar 2006, JMLR 7).

Shapes: N blocks (seeds, or data sets), k groups. Rank 1 is the best of a block, equal results share the mean of their ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from oche.analysis.paired_tests import ALPHA, Group
from oche.analysis.summary import ENOUGH, RESAMPLES, CannotSay


@dataclass(frozen=True)
class Ranking:
    """``ranks``: mean rank by group, best first. ``chi2``: Friedman's statistic, ``f``: Iman and Davenport's of it."""

    ranks: dict[str, float]
    blocks: tuple[int, ...]
    chi2: float
    f: float | CannotSay
    p: float
    """of the permutation test by Friedman's statistic"""
    difference: float
    """two mean ranks that differ by this much differ significantly, at α = 0.05"""

    @property
    def alike(self) -> tuple[tuple[str, ...], ...]:
        """See `cliques`."""
        return cliques(self.ranks, self.difference)


def rank_groups(groups: Mapping[str, Group], higher: bool = True, seed: int = 0) -> Ranking | CannotSay:
    """Ranks of three or more ``groups`` over the blocks that all of them have; ``higher``: whether more is better.

    χ²_F = 12 N / (k (k + 1)) · (Σ_j R_j² - k (k + 1)² / 4) and F_F = (N - 1) χ²_F / (N (k - 1) - χ²_F) with mean ranks R_j
    (Demšar 2006 §3.2.1). p is that of the permutation test of the same statistic, ranks shuffled within blocks: exact where
    all shuffles can be tried, and right for few blocks, where χ² and F are not; where all blocks agree, F has no value.
    """
    blocks = tuple(sorted(set[int].intersection(*map(set, groups.values())))) if groups else ()
    if (k := len(groups)) < 3 or (n := len(blocks)) < ENOUGH:
        return CannotSay(
            f"ranks of {k} group{'s' * (k != 1)} over {len(blocks)} common block{'s' * (len(blocks) != 1)}: "
            f"it takes 3 groups and {ENOUGH} blocks"
        )
    import numpy as np
    from scipy import stats

    values = np.array([[groups[name][block] for name in groups] for block in blocks], dtype=float)
    ranks = stats.rankdata(-values if higher else values, axis=1)  # (N, k)
    mean = dict(sorted(zip(groups, ranks.mean(0).tolist(), strict=True), key=lambda pair: pair[1]))
    chi2 = 12 * n / (k * (k + 1)) * (sum(r * r for r in mean.values()) - k * (k + 1) ** 2 / 4)
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else CannotSay("all blocks agree on the order")
    return Ranking(mean, blocks, chi2, f, _shuffled(ranks, seed), critical_difference(k, n))


def _shuffled(ranks, seed: int) -> float:
    """p of Friedman's statistic when the ranks (N, k) of each block are shuffled."""
    import numpy as np
    from scipy import stats

    if (ranks == ranks[:, :1]).all():
        return 1.0  # nothing but ties

    def spread(*columns, axis):
        return sum(np.sum(column, axis=axis) ** 2 for column in columns)  # rises with χ²_F

    drawn: Any = {"random_state": np.random.default_rng(seed)}  # called rng from scipy 1.15 on
    found = stats.permutation_test(
        tuple(ranks.T), spread, permutation_type="samples", alternative="greater", vectorized=True,
        n_resamples=RESAMPLES, **drawn,
    )  # fmt: skip
    return float(found.pvalue)


def critical_difference(k: int, n: int, alpha: float = ALPHA) -> float:
    """Nemenyi's: CD = q_α √(k (k + 1) / (6 N)), q_α that of the studentised range by √2 (Demšar 2006 §3.2.2)."""
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - alpha, k, float("inf"))) / sqrt(2)
    return q * sqrt(k * (k + 1) / (6 * n))


def cliques(ranks: Mapping[str, float], difference: float) -> tuple[tuple[str, ...], ...]:
    """The largest sets of two or more groups, neighbours by mean rank, of which no two differ by ``difference``."""
    order: Sequence[str] = sorted(ranks, key=lambda name: ranks[name])
    found: list[tuple[str, ...]] = []
    end = 0
    for i, name in enumerate(order):
        j = max(j for j, other in enumerate(order) if ranks[other] - ranks[name] < difference)
        if j > i and j > end:
            found.append(tuple(order[i : j + 1]))
            end = j
    return tuple(found)
