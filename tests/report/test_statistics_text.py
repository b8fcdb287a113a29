"""Statistics in words: what can and what cannot be told."""

from __future__ import annotations

import warnings

import pytest

from oche.analysis import pairwise, rank_groups, summarise
from oche.report.metrics import ACCURACY
from oche.report.statistics_text import coverage_warning, pair_conclusion, pairs_summary, ranking_summary


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def groups(n: int, **shift: float):
    return {name: {s: 0.9 + by + s * s / 1000 for s in range(n)} for name, by in shift.items()}


def test_summaries_of_pairs_name_significant_differences_and_missing_seeds():
    many = pairwise(groups(8, a=0.1, b=0.0))
    assert pair_conclusion(many[0], ACCURACY) == "a is better"
    assert pairs_summary(many, ACCURACY) == (
        "Significant at 5 % (1 comparison, up to 8 seeds each, Holm's correction): a is better than b."
    )
    noisy = pairwise({"a": {s: (-1) ** s / 100 for s in range(8)}, "b": dict.fromkeys(range(8), 0.0)})
    assert pairs_summary(noisy, ACCURACY).endswith("This does not show that they are equal.")
    few = pairs_summary(pairwise(groups(5, a=0.1, b=0.0, c=0.2)), ACCURACY)
    assert few.startswith(
        "With 5 seeds the smallest p that the test can give is 0.0625, and 0.19 after the correction for 3"
    )
    assert "It takes 7 seeds." in few
    assert pairs_summary(pairwise(groups(2, a=0.1, b=0.0)), ACCURACY).startswith(
        "These groups cannot be compared: 2 seeds"
    )


def test_ranks_that_do_not_differ_significantly_are_called_so():
    values = {"a": {0: 1, 1: 2, 2: 3}, "b": {0: 2, 1: 3, 2: 1}, "c": {0: 3, 1: 1, 2: 2}}
    assert "do not differ significantly" in ranking_summary(rank_groups(values))
    assert ranking_summary(rank_groups({"a": {0: 1}})).startswith("No mean ranks: ranks of 1 group over 1 common block")


def test_a_warning_says_that_intervals_of_few_seeds_are_narrow():
    assert "for n = 5 normal values the nominal 95 % interval holds the mean in 83 %" in coverage_warning(
        {"a": summarise([0.1, 0.2, 0.4, 0.5, 0.7, 0.9]), "b": summarise([0.1])}
    )
    assert coverage_warning({"a": summarise([0.1])}) == ""
