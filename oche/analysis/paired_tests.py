"""Two groups compared seed by seed: is their difference more than chance, and how large is it?

A group is a mapping seed → result. Results of one seed share the split of the data and whatever else follows from the seed,
so they are compared with each other; of seeds that one group lacks nothing is used.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, log2
from typing import Any

from oche.analysis.summary import ENOUGH, CannotSay, Interval, interval

Group = Mapping[int, float]
ALPHA = 0.05
FLIPS = 2**15  #: so many flips of signs are tried at most


@dataclass(frozen=True)
class Paired:
    """Group a against group b over the ``seeds`` that both have; a difference is a - b."""

    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    """seeds that one of the two lacks"""
    difference: float
    """mean"""
    interval: Interval | CannotSay
    """of the mean difference, at 95 %"""
    p: float
    """of the exact sign-flip permutation test, two-sided"""
    smallest: float
    """the least p that this number of seeds can give, however large the difference"""
    d: float | CannotSay
    """paired Cohen's d, d_z: mean of the differences by their standard deviation"""
    a12: float
    """Vargha and Delaney's A: the chance that a result of a is larger than one of b, ties counted half"""

    @property
    def n(self) -> int:
        return len(self.seeds)


def compare(a: Group, b: Group, seed: int = 0) -> Paired | CannotSay:
    """Group ``a`` against group ``b``; it cannot be said of fewer than 3 common seeds.

    The test flips the signs of the differences in all 2^n ways (Fisher 1935 §21; `scipy.stats.permutation_test`, drawn by
    ``seed`` from n = 16 on) and compares mean differences. Beside the paired t-test it needs no normal distribution, which few
    seeds cannot show; beside Wilcoxon's signed ranks it tests the mean that is reported, and ties and zeros need no
    conventions. Both exact tests have the same least p, 2^(1-n).
    """
    seeds = tuple(sorted({*a} & {*b}))
    if len(seeds) < ENOUGH:
        return CannotSay(f"{len(seeds)} seed{'s' * (len(seeds) != 1)} in common; a comparison takes {ENOUGH} or more")
    x, y = [a[s] for s in seeds], [b[s] for s in seeds]
    differences = [i - j for i, j in zip(x, y, strict=True)]
    return Paired(
        seeds, tuple(sorted({*a} ^ {*b})), statistics.fmean(differences), interval(differences, seed=seed),
        _sign_flips(x, y, seed), smallest_p(len(seeds)), _cohen(differences), vargha_delaney(x, y),
    )  # fmt: skip


def _sign_flips(x: Sequence[float], y: Sequence[float], seed: int) -> float:
    import numpy as np
    from scipy import stats

    def mean_difference(x, y, axis):
        return np.mean(x - y, axis=axis)

    drawn: Any = {"random_state": np.random.default_rng(seed)}  # called rng from scipy 1.15 on
    found = stats.permutation_test(
        (x, y), mean_difference, permutation_type="samples", vectorized=True, n_resamples=FLIPS,
        **drawn,
    )  # fmt: skip
    return float(found.pvalue)


def smallest_p(n: int) -> float:
    """The least two-sided p of ``n`` pairs: 2^(1-n) where all sign flips are tried, else that of the flips drawn."""
    return 2.0 ** (1 - n) if 2**n <= FLIPS else 2 / (FLIPS + 1)


def seeds_for(comparisons: int, alpha: float = ALPHA) -> int:
    """How many seeds it takes for any p to come below ``alpha`` when Holm's correction has so many comparisons."""
    return ceil(1 + log2(max(1, comparisons) / alpha))


def _cohen(differences: Sequence[float]) -> float | CannotSay:
    """d_z = mean(a - b) / sd(a - b) (Cohen 1988 §2.3.5)."""
    spread = statistics.stdev(differences)
    if spread == 0:
        return CannotSay("the difference is the same for every seed")
    return statistics.fmean(differences) / spread


def vargha_delaney(x: Sequence[float], y: Sequence[float]) -> float:
    """A = P(X > Y) + P(X = Y) / 2 over all pairs of an x and a y (Vargha and Delaney 2000 eq. 1)."""
    wins = sum((i > j) + 0.5 * (i == j) for i in x for j in y)
    return wins / (len(x) * len(y))


# --- many pairs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One comparison of several. ``holm``: its p corrected for all of them; None where there is none."""

    a: str
    b: str
    result: Paired | CannotSay
    holm: float | None


def pairwise(groups: Mapping[str, Group], seed: int = 0) -> tuple[Pair, ...]:
    """Every two of ``groups``, in order, with the p-values corrected together."""
    found = [(a, b, compare(groups[a], groups[b], seed)) for a, b in combinations(groups, 2)]
    corrected = iter(holm([result.p for _, _, result in found if isinstance(result, Paired)]))
    return tuple(Pair(a, b, r, next(corrected) if isinstance(r, Paired) else None) for a, b, r in found)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's step-down procedure (1979), in the order given.

    With p_(1) ≤ … ≤ p_(m): corrected p_(i) = max over j ≤ i of min(1, (m - j + 1) p_(j)). The chance of a single wrong
    rejection among all m is at most α.
    """
    corrected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected
