"""Comparison of several groups by their ranks: Friedman's test and Nemenyi's critical difference (Demšar 2006, JMLR 7).

Shapes: N blocks (seeds, or data sets), k groups. Rank 1 is the best of a block; equal results share the mean of their ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from oche.analysis.paired_tests import ALPHA, SeedResults
from oche.analysis.summary import MIN_VALUES, RESAMPLES, Undetermined
from oche.core.errors import plural


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of groups and their test.

    ``ranks``: mean rank by group, best first. ``chi2``: Friedman's statistic; ``f``: Iman and Davenport's correction of it.
    """

    ranks: dict[str, float]
    blocks: tuple[int, ...]
    chi2: float
    f: float | Undetermined
    p: float
    """p of the permutation test of Friedman's statistic"""
    difference: float
    """Nemenyi's critical difference: two mean ranks further apart differ significantly, at α = 0.05"""

    @property
    def alike(self) -> tuple[tuple[str, ...], ...]:
        """Sets of groups that do not differ significantly, see `cliques`."""
        return cliques(self.ranks, self.difference)


def rank_groups(groups: Mapping[str, SeedResults], higher: bool = True, seed: int = 0) -> Ranking | Undetermined:
    """Rank three or more ``groups`` over the blocks that all of them have; ``higher``: whether higher results are better.

    χ²_F = 12 N / (k (k + 1)) · (Σ_j R_j² - k (k + 1)² / 4) and F_F = (N - 1) χ²_F / (N (k - 1) - χ²_F) with mean ranks R_j
    (Demšar 2006 §3.2.1). p comes from the permutation test of the same statistic, with ranks shuffled within blocks: it is exact
    if all shuffles can be tried, and valid for few blocks, where the χ² and F distributions are poor approximations. Where all
    blocks agree on the order, F has no value. `Undetermined` for fewer than 3 groups or 3 common blocks.
    """
    blocks = tuple(sorted(set[int].intersection(*map(set, groups.values())))) if groups else ()
    if (k := len(groups)) < 3 or (n := len(blocks)) < MIN_VALUES:
        return Undetermined(
            f"ranks of {plural(k, 'group')} over {plural(len(blocks), 'common block')}: "
            f"it takes 3 groups and {MIN_VALUES} blocks"
        )
    import numpy as np
    from scipy import stats

    values = np.array([[groups[name][block] for name in groups] for block in blocks], dtype=float)
    ranks = stats.rankdata(-values if higher else values, axis=1)  # (N, k)
    mean = dict(sorted(zip(groups, ranks.mean(0).tolist(), strict=True), key=lambda pair: pair[1]))
    chi2 = 12 * n / (k * (k + 1)) * (sum(r * r for r in mean.values()) - k * (k + 1) ** 2 / 4)
    denominator = n * (k - 1) - chi2
    f = (n - 1) * chi2 / denominator if denominator > 1e-9 else Undetermined("all blocks agree on the order")
    return Ranking(mean, blocks, chi2, f, _permutation_p(ranks, seed), critical_difference(k, n))


def _permutation_p(ranks, seed: int) -> float:
    """Return the p of Friedman's statistic when the ranks (N, k) of each block are shuffled."""
    import numpy as np
    from scipy import stats

    if (ranks == ranks[:, :1]).all():
        return 1.0  # all groups are tied in every block

    def spread(*columns, axis):
        return sum(np.sum(column, axis=axis) ** 2 for column in columns)  # rises with χ²_F

    drawn: Any = {"random_state": np.random.default_rng(seed)}  # the argument is called rng from scipy 1.15 on
    found = stats.permutation_test(
        tuple(ranks.T), spread, permutation_type="samples", alternative="greater", vectorized=True,
        n_resamples=RESAMPLES, **drawn,
    )  # fmt: skip
    return float(found.pvalue)


def critical_difference(k: int, n: int, alpha: float = ALPHA) -> float:
    """Return Nemenyi's critical difference of ``k`` groups over ``n`` blocks.

    CD = q_α √(k (k + 1) / (6 N)), with q_α the quantile of the studentised range divided by √2 (Demšar 2006 §3.2.2).
    """
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - alpha, k, float("inf"))) / sqrt(2)
    return q * sqrt(k * (k + 1) / (6 * n))


def cliques(ranks: Mapping[str, float], difference: float) -> tuple[tuple[str, ...], ...]:
    """Return the largest sets of two or more groups, consecutive by mean rank, whose ranks differ by less than ``difference``."""
    order: Sequence[str] = sorted(ranks, key=lambda name: ranks[name])
    found: list[tuple[str, ...]] = []
    end = 0
    for i, name in enumerate(order):
        j = max(j for j, other in enumerate(order) if ranks[other] - ranks[name] < difference)
        if j > i and j > end:
            found.append(tuple(order[i : j + 1]))
            end = j
    return tuple(found)
