"""Paired comparison of classifiers, against scipy, by hand, and by simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from oche.analysis.paired_classifiers import compare_classifiers, exact_mcnemar, wilson


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (3, 9), (12, 12), (40, 61), (700, 640)])
def test_the_test_is_the_binomial_one(a, b):
    want = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert exact_mcnemar(a, b) == pytest.approx(want, rel=1e-9)


def test_counts_difference_and_verdict_by_hand():
    a = [True] * 8 + [True] * 9 + [False] * 1 + [False] * 2
    b = [True] * 8 + [False] * 9 + [True] * 1 + [False] * 2
    found = compare_classifiers(a, b)
    assert (found.n, found.only_a, found.only_b, found.difference) == (20, 9, 1, 0.4)
    assert found.p == pytest.approx(22 / 1024) and found.verdict == "better"
    centre, half = 8 / 22, 1.959964 * np.sqrt(11 - 64 / 22) / 22  # (9.5, 1.5) of 22
    assert found.interval == pytest.approx((centre - half, centre + half), rel=1e-6)
    assert compare_classifiers(b, a).verdict == "worse" and compare_classifiers(a, a).verdict == "undecided"


def test_intervals_cover_the_difference():
    """The published reason for the added halves: about 95 % also where few images tell the two apart."""
    g, held = np.random.default_rng(0), 0
    for _ in range(2000):
        pairs = g.choice(3, 153, p=(0.06, 0.02, 0.92))
        low, high = compare_classifiers((pairs == 0).tolist(), (pairs == 1).tolist()).interval
        held += low <= 0.04 <= high
    assert 0.93 <= held / 2000 <= 0.975


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (153, 153), (9000, 10000)])
def test_wilson_is_scipys(right, n):
    want = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((want.low, want.high), abs=1e-12)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="3 and 2 images cannot be compared"):
        compare_classifiers([True] * 3, [True] * 2)
    with pytest.raises(ValueError, match="at least one"):
        compare_classifiers([], [])
