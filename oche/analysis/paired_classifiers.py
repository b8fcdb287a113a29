"""Comparison of two classifiers on the same images: exact McNemar test, and an interval for the difference in accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class ClassifierComparison:
    """Classifier a compared with classifier b on ``n`` images that both saw; a difference is a - b, in shares of 1."""

    n: int
    only_a: int
    """images that a alone has right"""
    only_b: int
    """images that b alone has right"""
    difference: float
    interval: tuple[float, float]
    """95 % interval of the difference"""
    p: float
    """two-sided p of the exact McNemar test"""

    @property
    def verdict(self) -> str:
        """Return "better", "worse" or "undecided" for a, at 5 %."""
        if self.p >= 0.05 or self.only_a == self.only_b:
            return "undecided"
        return "better" if self.only_a > self.only_b else "worse"


def compare_classifiers(a: Sequence[bool], b: Sequence[bool]) -> ClassifierComparison:
    """Compare two classifiers by which images each has right (N,), in the same order.

    McNemar's test (1947) looks at the images on which they differ. If the classifiers are equally good, each of them is
    right on such an image with probability 1/2; the p is that of the binomial distribution, so it is exact for few images
    too. The interval is Wald's with half an image added to each of the two counts and two to n (Agresti and Min 2005,
    10.1002/sim.1781); unlike Wald's own it covers its 95 % for small counts.

    Raises `ValueError` for sequences of different lengths or without images.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} images cannot be compared; give the same images, at least one")
    n = len(a)
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    first, second, total = only_a + 0.5, only_b + 0.5, n + 2
    centre = (first - second) / total
    half = _Z * math.sqrt(first + second - (first - second) ** 2 / total) / total
    interval = max(-1.0, centre - half), min(1.0, centre + half)
    return ClassifierComparison(n, only_a, only_b, (only_a - only_b) / n, interval, exact_mcnemar(only_a, only_b))


def exact_mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p of the exact McNemar test: min(1, 2 · P(X <= min)), X binomial (only_a + only_b, 1/2)."""
    from scipy.special import bdtr  # the binomial distribution; importing scipy.stats would take seconds

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy of ``right`` among ``n`` images (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    share, z2 = right / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)
