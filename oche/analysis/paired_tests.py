"""Paired comparison of two groups of results, seed by seed: significance and size of their difference.

A group is a mapping seed → result. Results of one seed share the split of the data and everything else that follows from the
seed, so they are compared with each other; seeds that one of the groups lacks are left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, log2
from typing import Any

from oche.analysis.summary import MIN_VALUES, Interval, Undetermined, interval
from oche.core.errors import plural

SeedResults = Mapping[int, float]
ALPHA = 0.05
MAX_FLIPS = 2**15  #: flips of signs that are tried, at most


@dataclass(frozen=True)
class PairedComparison:
    """Comparison of group a with group b over the ``seeds`` that both have; a difference is a - b."""

    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    """seeds that only one of the two has"""
    difference: float
    """mean difference"""
    interval: Interval | Undetermined
    """95 % interval of the mean difference"""
    p: float
    """two-sided p of the exact sign-flip permutation test"""
    smallest: float
    """smallest p that this number of seeds can give, see `smallest_p`"""
    d: float | Undetermined
    """paired Cohen's d, d_z: mean of the differences divided by their standard deviation"""
    a12: float
    """Vargha and Delaney's A: the probability that a result of a is larger than one of b, ties counted half"""

    @property
    def n(self) -> int:
        return len(self.seeds)


def compare_paired(a: SeedResults, b: SeedResults, seed: int = 0) -> PairedComparison | Undetermined:
    """Compare group ``a`` with group ``b``; `Undetermined` for fewer than 3 common seeds.

    The sign-flip permutation test (Fisher 1935 §21; `scipy.stats.permutation_test`) flips the signs of the differences in all
    2^n ways and compares mean differences; from n = 16 on the flips are drawn by ``seed``. Unlike the paired t-test it does not
    assume normal differences, which cannot be checked with few seeds. Unlike Wilcoxon's signed-rank test it tests the mean
    that is reported, and needs no conventions for ties and zeros. Both exact tests have the same smallest p, 2^(1-n).
    """
    seeds = tuple(sorted({*a} & {*b}))
    if len(seeds) < MIN_VALUES:
        return Undetermined(f"{plural(len(seeds), 'seed')} in common; a comparison takes {MIN_VALUES} or more")
    x, y = [a[s] for s in seeds], [b[s] for s in seeds]
    differences = [i - j for i, j in zip(x, y, strict=True)]
    return PairedComparison(
        seeds, tuple(sorted({*a} ^ {*b})), statistics.fmean(differences), interval(differences, seed=seed),
        _sign_flips(x, y, seed), smallest_p(len(seeds)), _cohen(differences), vargha_delaney(x, y),
    )  # fmt: skip


def _sign_flips(x: Sequence[float], y: Sequence[float], seed: int) -> float:
    """Return the two-sided p of the sign-flip test of the pairs (x_i, y_i)."""
    import numpy as np
    from scipy import stats

    def mean_difference(x, y, axis):
        return np.mean(x - y, axis=axis)

    drawn: Any = {"random_state": np.random.default_rng(seed)}  # the argument is called rng from scipy 1.15 on
    found = stats.permutation_test(
        (x, y), mean_difference, permutation_type="samples", vectorized=True, n_resamples=MAX_FLIPS,
        **drawn,
    )  # fmt: skip
    return float(found.pvalue)


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that ``n`` pairs can give: 2^(1-n) if all sign flips are tried, else 2 / (flips + 1)."""
    return 2.0 ** (1 - n) if 2**n <= MAX_FLIPS else 2 / (MAX_FLIPS + 1)


def seeds_needed(comparisons: int, alpha: float = ALPHA) -> int:
    """Return the number of seeds from which on p can be below ``alpha`` after Holm's correction for so many comparisons."""
    return ceil(1 + log2(max(1, comparisons) / alpha))


def _cohen(differences: Sequence[float]) -> float | Undetermined:
    """Return d_z = mean(a - b) / sd(a - b) (Cohen 1988 §2.3.5)."""
    spread = statistics.stdev(differences)
    if spread == 0:
        return Undetermined("the difference is the same for every seed")
    return statistics.fmean(differences) / spread


def vargha_delaney(x: Sequence[float], y: Sequence[float]) -> float:
    """Return A = P(X > Y) + P(X = Y) / 2 over all pairs of an x and a y (Vargha and Delaney 2000 eq. 1)."""
    wins = sum((i > j) + 0.5 * (i == j) for i in x for j in y)
    return wins / (len(x) * len(y))


# --- many pairs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One of several comparisons. ``holm``: its p corrected for all of them; None where the result is `Undetermined`."""

    a: str
    b: str
    result: PairedComparison | Undetermined
    holm: float | None


def pairwise(groups: Mapping[str, SeedResults], seed: int = 0) -> tuple[Pair, ...]:
    """Compare every two of ``groups``, with the p-values corrected together (`holm`)."""
    found = [(a, b, compare_paired(groups[a], groups[b], seed)) for a, b in combinations(groups, 2)]
    corrected = iter(holm([result.p for _, _, result in found if isinstance(result, PairedComparison)]))
    return tuple(Pair(a, b, r, next(corrected) if isinstance(r, PairedComparison) else None) for a, b, r in found)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values by Holm's step-down procedure (1979); returned in the order given.

    With p_(1) ≤ … ≤ p_(m): corrected p_(i) = max over j ≤ i of min(1, (m - j + 1) p_(j)). The probability of any wrong
    rejection among all m is at most α.
    """
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected
