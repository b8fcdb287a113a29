"""Paired comparisons against Fisher 1935, Demšar 2006 and counting by hand."""

from __future__ import annotations

import itertools
import random
import statistics as std

import pytest
from scipy import stats

from oche.analysis import PairedComparison, Undetermined, compare_paired, holm, pairwise, seeds_needed, smallest_p
from oche.analysis.paired_tests import vargha_delaney

# Darwin's fifteen pairs of Zea mays: differences of heights in eighths of an inch (Fisher 1935 §21)
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)


def test_fishers_permutation_test_of_darwins_maize():
    found = compare_paired(dict(enumerate(DARWIN)), dict.fromkeys(range(15), 0))
    assert found.difference == pytest.approx(314 / 15)
    assert found.p == 1726 / 32768  # Fisher 1935 §21: in 1,726 of 32,768 cases the sum is 314 or more, either way


@pytest.mark.parametrize("seed", range(5))
def test_p_is_the_share_of_sign_flips_that_differ_as_much(seed):
    draw = random.Random(seed)
    a, b = ([draw.randrange(20) for _ in range(6)] for _ in "ab")
    d = [x - y for x, y in zip(a, b, strict=True)]
    flips = [sum(s * x for s, x in zip(signs, d, strict=True)) for signs in itertools.product((1, -1), repeat=6)]
    share = sum(abs(total) >= abs(sum(d)) for total in flips) / 64
    found = compare_paired(dict(enumerate(a)), dict(enumerate(b)))
    assert found.p == pytest.approx(min(1.0, share))
    assert found.d == pytest.approx(std.fmean(d) / std.stdev(d))


@pytest.mark.parametrize("n", [3, 5, 6, 15])
def test_the_least_p_is_reached_by_a_difference_that_always_points_one_way(n):
    found = compare_paired({i: 0.9 + i / 1000 for i in range(n)}, {i: 0.8 for i in range(n)})
    assert found.p == found.smallest == 2 ** (1 - n)


def test_of_many_seeds_flips_are_drawn_and_p_is_never_less_than_they_can_tell():
    found = compare_paired({i: 0.9 + i / 1000 for i in range(20)}, {i: 0.8 for i in range(20)})
    assert found.p == found.smallest == 2 / (2**15 + 1)


def test_seeds_are_paired_and_those_of_one_group_left_out_and_named():
    a, b = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.1}, {2: 0.6, 0: 0.8, 1: 0.75, 9: 0.99}
    found = compare_paired(a, b)
    assert (found.seeds, found.left_out, found.n) == ((0, 1, 2), (3, 9), 3)
    assert found.difference == pytest.approx((0.1 + 0.05 + 0.1) / 3)


def test_two_common_seeds_are_too_few():
    found = compare_paired({0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.8, 1: 0.9})
    assert isinstance(found, Undetermined) and found.why == "2 seeds in common; a comparison takes 3 or more"


def test_equal_differences_have_no_effect_size_by_spread():
    found = compare_paired({0: 3, 1: 5, 2: 7}, {0: 2, 1: 4, 2: 6})
    assert isinstance(found.d, Undetermined) and isinstance(found.interval, Undetermined)
    assert found.difference == 1


@pytest.mark.parametrize("seed", range(5))
def test_vargha_and_delaneys_a_is_mann_and_whitneys_u_over_all_pairs(seed):
    draw = random.Random(seed)
    x, y = [draw.randrange(6) for _ in range(7)], [draw.randrange(6) for _ in range(4)]
    assert vargha_delaney(x, y) == pytest.approx(stats.mannwhitneyu(x, y).statistic / 28)
    assert vargha_delaney(x, y) + vargha_delaney(y, x) == pytest.approx(1)


def test_holm_on_published_examples():
    # en.wikipedia.org/wiki/Holm–Bonferroni_method: four p-values, and what becomes of them
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # Demšar 2006 §3.2.2: 0.016 < 0.017 and 0.019 < 0.025 are rejected, 0.607 is not
    assert [p < 0.05 for p in holm([0.607, 0.016, 0.019])] == [False, True, True]


@pytest.mark.parametrize("seed", range(20))
def test_holm_rejects_what_its_steps_reject(seed):
    draw = random.Random(seed)
    p = [draw.random() ** 3 for _ in range(draw.randrange(1, 9))]
    order, going, rejected = sorted(range(len(p)), key=lambda i: p[i]), True, set()
    for rank, i in enumerate(order):
        going = going and p[i] <= 0.05 / (len(p) - rank)
        rejected |= {i} if going else set()
    assert {i for i, q in enumerate(holm(p)) if q <= 0.05} == rejected
    assert all(q >= raw for q, raw in zip(holm(p), p, strict=True)) and max(holm(p)) <= 1


def test_pairs_are_corrected_together_and_those_that_cannot_be_told_left_apart():
    groups = {"a": {0: 1.0, 1: 1.1, 2: 1.3}, "b": {0: 0.5, 1: 0.4, 2: 0.7}, "c": {0: 1.0}}
    found = {(pair.a, pair.b): pair for pair in pairwise(groups)}
    assert [*found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert (
        isinstance(found["a", "b"].result, PairedComparison)
        and found["a", "b"].holm == found["a", "b"].result.p == 0.25
    )
    assert isinstance(found["a", "c"].result, Undetermined) and found["a", "c"].holm is None


@pytest.mark.parametrize(("pairs", "seeds"), [(1, 6), (3, 7), (10, 9), (136, 13)])
def test_so_many_seeds_it_takes_at_least(pairs, seeds):
    assert seeds_needed(pairs) == seeds
    assert pairs * smallest_p(seeds) <= 0.05 < pairs * smallest_p(seeds - 1)
