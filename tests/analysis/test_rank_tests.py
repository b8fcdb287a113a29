"""Ranks over many data sets against Demšar 2006 and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from oche.analysis import Undetermined, cliques, critical_difference, rank_groups

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
    assert isinstance(found.f, Undetermined)
    assert rank_groups({name: dict.fromkeys(range(3), 1.0) for name in "abc"}).p == 1


def test_ranks_take_the_blocks_that_all_groups_have():
    groups = {"a": {0: 1, 1: 2, 2: 3, 3: 9}, "b": {0: 2, 1: 3, 2: 4}, "c": {0: 3, 1: 4, 2: 5, 7: 0}}
    assert rank_groups(groups).blocks == (0, 1, 2)
    assert isinstance(rank_groups({"a": groups["a"], "b": groups["b"]}), Undetermined)
    assert isinstance(rank_groups({**groups, "d": {0: 1}}), Undetermined) and isinstance(rank_groups({}), Undetermined)


def test_cliques_are_the_largest_and_none_lies_within_another():
    ranks = {"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0, "e": 4.2}
    assert cliques(ranks, 1.0) == (("a", "b"), ("b", "c"), ("d", "e"))
    assert cliques(ranks, 9.0) == (("a", "b", "c", "d", "e"),) and cliques(ranks, 0.1) == ()
