"""Statistics against published examples (Demšar, Fisher, Efron and Tibshirani, scipy's manual) and counting by hand."""

from __future__ import annotations

import itertools
import math
import random
import statistics as std
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from oche.analysis import (
    CannotSay,
    Paired,
    associate,
    cliques,
    compare,
    critical_difference,
    holm,
    improvement,
    interval,
    pairwise,
    rank_groups,
    seeds_for,
    smallest_p,
    summarise,
)
from oche.analysis.paired_tests import vargha_delaney

# Demšar 2006, table 6: AUC of C4.5 and three variants on 14 data sets. Two values of "voting" are printed alike, 0.975, and
# ranked 2 and 3: they were told apart by digits that are not printed, of which the last one here stands for all.
VARIANTS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
AUC = (
    (0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.590, 0.569), (0.954, 0.971, 0.968, 0.967), (0.628, 0.661, 0.654, 0.657),
    (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931), (0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625),
    (0.775, 0.838, 0.866, 0.875), (1.000, 1.000, 1.000, 1.000), (0.940, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669),
    (0.972, 0.981, 0.97501, 0.975), (0.957, 0.978, 0.946, 0.970),
)  # fmt: skip
DEMSAR = {name: {i: row[j] for i, row in enumerate(AUC)} for j, name in enumerate(VARIANTS)}
# Darwin's fifteen pairs of Zea mays: differences of heights in eighths of an inch (Fisher 1935 §21)
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)
# Efron and Tibshirani 1993, table 14.1: spatial test data A
SPATIAL = (48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41)


# --- one group --------------------------------------------------------------------------------------------------------


def test_a_summary_is_mean_and_sample_standard_deviation():
    found = summarise([0.90, 0.91, 0.95])
    assert (found.n, found.least, found.most) == (3, 0.90, 0.95)
    assert found.mean == pytest.approx(0.92)
    assert found.sd == pytest.approx(math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2))


def test_the_interval_of_efron_and_tibshiranis_variance():
    variance = lambda x, axis: np.var(x, axis=axis)  # noqa: E731  the plug-in one, as there
    assert np.var(SPATIAL) == pytest.approx(171.5, abs=0.05)
    low, high = interval(SPATIAL, statistic=variance, level=0.9)
    # Table 14.2, from 2,000 resamples: (115.8, 259.6); ends of another 9,999 wander by about 1 %.
    assert low == pytest.approx(115.8, rel=0.02) and high == pytest.approx(259.6, rel=0.02)


def test_the_interval_is_the_same_every_time_and_moves_with_the_values():
    values = [0.91173, 0.93062, 0.92319, 0.97204, 0.90587]
    low, high = interval(values, seed=3)
    assert (low, high) == interval(values, seed=3)
    assert low < std.fmean(values) < high
    assert interval([10 * v - 2 for v in values], seed=3) == pytest.approx((10 * low - 2, 10 * high - 2))


def test_with_many_values_the_interval_is_that_of_the_normal_distribution():
    draw = random.Random(0)
    values = [draw.gauss(0.9, 0.02) for _ in range(400)]
    half = 1.96 * std.stdev(values) / 20
    low, high = interval(values)
    assert low == pytest.approx(std.fmean(values) - half, abs=half / 10)
    assert high == pytest.approx(std.fmean(values) + half, abs=half / 10)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, 0.91], [0.9, 0.9, 0.9]])
def test_of_too_few_or_equal_values_it_cannot_say(values):
    found = summarise(values)
    said = found if isinstance(found, CannotSay) else found.interval
    assert isinstance(said, CannotSay) and said.why
    if len(values) == 1:
        assert isinstance(found.sd, CannotSay)


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_of_few_values_is_one_or_says_why_not(seed):
    draw = random.Random(seed)
    values = [round(draw.gauss(0.9, 0.01), 2) for _ in range(3)]  # two digits: ties are common
    found = interval(values)
    if not isinstance(found, CannotSay):
        assert min(values) - 1e-12 <= found[0] <= found[1] <= max(values) + 1e-12


# --- two groups -------------------------------------------------------------------------------------------------------


def test_fishers_permutation_test_of_darwins_maize():
    found = compare(dict(enumerate(DARWIN)), dict.fromkeys(range(15), 0))
    assert found.difference == pytest.approx(314 / 15)
    assert found.p == 1726 / 32768  # Fisher 1935 §21: in 1,726 of 32,768 cases the sum is 314 or more, either way


@pytest.mark.parametrize("seed", range(5))
def test_p_is_the_share_of_sign_flips_that_differ_as_much(seed):
    draw = random.Random(seed)
    a, b = ([draw.randrange(20) for _ in range(6)] for _ in "ab")
    d = [x - y for x, y in zip(a, b, strict=True)]
    flips = [sum(s * x for s, x in zip(signs, d, strict=True)) for signs in itertools.product((1, -1), repeat=6)]
    share = sum(abs(total) >= abs(sum(d)) for total in flips) / 64
    found = compare(dict(enumerate(a)), dict(enumerate(b)))
    assert found.p == pytest.approx(min(1.0, share))
    assert found.d == pytest.approx(std.fmean(d) / std.stdev(d))


@pytest.mark.parametrize("n", [3, 5, 6, 15])
def test_the_least_p_is_reached_by_a_difference_that_always_points_one_way(n):
    found = compare({i: 0.9 + i / 1000 for i in range(n)}, {i: 0.8 for i in range(n)})
    assert found.p == found.smallest == 2 ** (1 - n)


def test_of_many_seeds_flips_are_drawn_and_p_is_never_less_than_they_can_tell():
    found = compare({i: 0.9 + i / 1000 for i in range(20)}, {i: 0.8 for i in range(20)})
    assert found.p == found.smallest == 2 / (2**15 + 1)


def test_seeds_are_paired_and_those_of_one_group_left_out_and_named():
    a, b = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.1}, {2: 0.6, 0: 0.8, 1: 0.75, 9: 0.99}
    found = compare(a, b)
    assert (found.seeds, found.left_out, found.n) == ((0, 1, 2), (3, 9), 3)
    assert found.difference == pytest.approx((0.1 + 0.05 + 0.1) / 3)


def test_two_common_seeds_are_too_few():
    found = compare({0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.8, 1: 0.9})
    assert isinstance(found, CannotSay) and found.why == "2 seeds in common; a comparison takes 3 or more"


def test_equal_differences_have_no_effect_size_by_spread():
    found = compare({0: 3, 1: 5, 2: 7}, {0: 2, 1: 4, 2: 6})
    assert isinstance(found.d, CannotSay) and isinstance(found.interval, CannotSay)
    assert found.difference == 1


@pytest.mark.parametrize("seed", range(5))
def test_vargha_and_delaneys_a_is_mann_and_whitneys_u_over_all_pairs(seed):
    draw = random.Random(seed)
    x, y = [draw.randrange(6) for _ in range(7)], [draw.randrange(6) for _ in range(4)]
    assert vargha_delaney(x, y) == pytest.approx(stats.mannwhitneyu(x, y).statistic / 28)
    assert vargha_delaney(x, y) + vargha_delaney(y, x) == pytest.approx(1)


# --- many pairs -------------------------------------------------------------------------------------------------------


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
    assert isinstance(found["a", "b"].result, Paired) and found["a", "b"].holm == found["a", "b"].result.p == 0.25
    assert isinstance(found["a", "c"].result, CannotSay) and found["a", "c"].holm is None


@pytest.mark.parametrize(("pairs", "seeds"), [(1, 6), (3, 7), (10, 9), (136, 13)])
def test_so_many_seeds_it_takes_at_least(pairs, seeds):
    assert seeds_for(pairs) == seeds
    assert pairs * smallest_p(seeds) <= 0.05 < pairs * smallest_p(seeds - 1)


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_friedman_on_demsars_table():
    found = rank_groups(DEMSAR)
    published = {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    assert found.ranks == pytest.approx(published, abs=5e-4)
    assert [*found.ranks] == sorted(published, key=published.__getitem__)
    assert (round(found.chi2, 2), round(found.f, 2)) == (9.28, 3.69)
    assert round(critical_difference(4, 14, alpha=0.10), 2) == 1.12 and round(found.difference, 2) == 1.25
    # F(3, 39) of 3.69 is beyond the critical 2.85, and its p near that of shuffling
    assert found.p < 0.05 and found.p == pytest.approx(stats.f.sf(found.f, 3, 39), abs=0.01)
    # §3.2.2: at α = 0.10 the best differs from C4.5 (1.18 > 1.12) and not from C4.5+cf (0.93)
    assert cliques(found.ranks, 1.12) == (("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5"))


def test_nemenyis_q_is_demsars_table_5a():
    tables = {
        0.05: (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164),
        0.10: (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920),
    }
    for alpha, table in tables.items():
        for k, published in enumerate(table, 2):
            q = critical_difference(k, 1, alpha) / math.sqrt(k * (k + 1) / 6)
            assert q == pytest.approx(published, abs=1.5e-3)  # printed with three digits, some cut and not rounded


@pytest.mark.parametrize("seed", range(3))
def test_friedman_is_scipys_where_nothing_is_tied_and_ranks_turn_with_the_direction(seed):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(6, 4))
    groups = {name: dict(enumerate(column)) for name, column in zip("abcd", values.T.tolist(), strict=True)}
    up, down = rank_groups(groups), rank_groups(groups, higher=False)
    assert up.chi2 == pytest.approx(stats.friedmanchisquare(*values.T).statistic) == pytest.approx(down.chi2)
    assert {name: 5 - rank for name, rank in up.ranks.items()} == pytest.approx(down.ranks)


def test_friedman_of_scipys_manual():
    x = np.random.default_rng(seed=18).random(
        (6, 10)
    )  # the example of scipy.stats.friedmanchisquare: 6 groups, 10 blocks
    found = rank_groups({i: dict(enumerate(row)) for i, row in enumerate(x.tolist())})
    assert found.chi2 == pytest.approx(11.428571428571416)
    assert found.p == pytest.approx(0.043514520866727614, abs=0.01)  # χ² there; shuffled here


def test_blocks_that_agree_give_the_least_p_that_counting_allows():
    groups = {name: {i: j + i / 10 for i in range(3)} for j, name in enumerate("abc")}
    found = rank_groups(groups)
    assert found.p == pytest.approx(1 / 36)  # 3! of the 6³ ways to shuffle agree
    assert isinstance(found.f, CannotSay)
    assert rank_groups({name: dict.fromkeys(range(3), 1.0) for name in "abc"}).p == 1


def test_ranks_take_the_blocks_that_all_groups_have():
    groups = {"a": {0: 1, 1: 2, 2: 3, 3: 9}, "b": {0: 2, 1: 3, 2: 4}, "c": {0: 3, 1: 4, 2: 5, 7: 0}}
    assert rank_groups(groups).blocks == (0, 1, 2)
    assert isinstance(rank_groups({"a": groups["a"], "b": groups["b"]}), CannotSay)
    assert isinstance(rank_groups({**groups, "d": {0: 1}}), CannotSay) and isinstance(rank_groups({}), CannotSay)


def test_cliques_are_the_largest_and_none_lies_within_another():
    ranks = {"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0, "e": 4.2}
    assert cliques(ranks, 1.0) == (("a", "b"), ("b", "c"), ("d", "e"))
    assert cliques(ranks, 9.0) == (("a", "b", "c", "d", "e"),) and cliques(ranks, 0.1) == ()


# --- beside random cells, and beside a table --------------------------------------------------------------------------


def test_relative_improvement_is_yangs_and_turns_for_perplexity():
    found = improvement([0.95, 0.96, 0.97], [0.90, 0.92, 0.91])
    assert found.percent == pytest.approx(100 * (0.96 - 0.91) / 0.91)
    assert found.interval[0] < found.percent < found.interval[1]
    assert improvement([60.0, 62.0], [80.0, 84.0], higher=False).percent == pytest.approx(100 * (82 - 61) / 82)
    assert isinstance(improvement([60.0, 62.0], [80.0, 84.0]).interval, CannotSay)
    assert isinstance(improvement([0.9], []), CannotSay) and isinstance(improvement([], [0.9]), CannotSay)
    assert "is 0" in str(improvement([0.9], [0.0, 0.0]))


def test_rank_correlations_of_scipys_manual():
    assert associate([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]).kendall == pytest.approx(-0.47140452079103173)
    assert associate([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]).spearman == pytest.approx(0.8207826816681233)
    assert isinstance(associate([1, 2], [1, 2]), CannotSay) and isinstance(associate([1, 2, 3], [4, 4, 4]), CannotSay)


def test_importing_it_loads_neither_scipy_nor_torch():
    code = "import sys, oche.analysis; print({m.partition('.')[0] for m in sys.modules} & {'scipy', 'torch', 'numpy'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
