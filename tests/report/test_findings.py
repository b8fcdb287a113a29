"""Findings in sentences, against scipy.stats; numbers as they are written."""

from __future__ import annotations

import statistics

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oche.report.findings import (
    _prediction_half_width,
    collapse_finding,
    entropy_finding,
    ground_truth_finding,
    search_gain,
)

ACCURACIES = st.lists(st.floats(0.5, 1.0), min_size=2, max_size=40).filter(lambda xs: statistics.stdev(xs) > 1e-6)


@given(ACCURACIES)
def test_the_half_width_is_the_prediction_interval_of_student(values):
    n = len(values)
    scale = numpy.std(values, ddof=1) * numpy.sqrt(1 + 1 / n)
    low, high = stats.t.interval(0.95, n - 1, loc=numpy.mean(values), scale=scale)
    assert _prediction_half_width(values) == pytest.approx((high - low) / 2, rel=1e-9)


def test_the_prediction_interval_holds_one_more_value_in_95_of_100_cases():
    draws = numpy.random.default_rng(0).normal(size=(20_000, 4))
    reach = stats.t.ppf(0.975, 2) * draws[:, :3].std(1, ddof=1) * numpy.sqrt(4 / 3)
    assert _prediction_half_width(list(draws[0, :3])) == pytest.approx(reach[0])
    inside = abs(draws[:, 3] - draws[:, :3].mean(1)) <= reach
    assert inside.mean() == pytest.approx(0.95, abs=0.005)  # three standard errors


@given(ACCURACIES, st.floats(0.0, 1.0))
def test_the_verdict_follows_the_interval(random, found):
    text = search_gain(found, random)
    difference = found - statistics.fmean(random)
    if abs(difference) <= _prediction_half_width(random):
        assert "may be chance" in text
    else:
        assert ("The search gained" if difference > 0 else "The search lost") in text
    assert f"better than {sum(found > r for r in random)} of the {len(random)}" in text


def test_what_is_not_known_is_said():
    assert "not known" in search_gain(None, [0.9])
    assert "No random cell" in search_gain(0.9, [])
    assert "with one random cell this may be chance" in search_gain(0.9, [0.8])
    assert "+10.00 points" in search_gain(0.9, [0.8])


def test_equal_random_cells_leave_no_room_for_chance():
    assert "The search gained 1.00 points" in search_gain(0.96, [0.95, 0.95, 0.95])
    assert "may be chance" in search_gain(0.95, [0.95, 0.95])


def records(*shares: float, start: int = 1):
    return [{"epoch": e, "skip_share": {"reduce": 1.0, "normal": s}} for e, s in enumerate(shares, start)]


@pytest.mark.parametrize(("share", "level"), [(0.0, "ok"), (0.25, "ok"), (0.375, "watch"), (0.5, "bad"), (1.0, "bad")])
def test_collapse_is_read_from_the_normal_cell(share, level):
    found, text = collapse_finding(records(1.0, share, start=30), 8)
    assert found == level and f"{round(8 * share)} of 8 edges" in text


def test_a_short_search_says_little_about_collapse():
    assert "says little" in collapse_finding(records(0.0), 8)[1]
    assert "says little" not in collapse_finding(records(0.0, start=50), 8)[1]


def test_no_collapse_is_claimed_without_records():
    assert collapse_finding([], 8) == ("unknown", "No share of skip connections has been recorded.")
    only_reduce = [{"epoch": 3, "skip_share": {"reduce": 0.75}}]
    assert collapse_finding(only_reduce, None)[1].startswith(
        "At epoch 3 the reduce cell would keep 75\u00a0% of the edges"
    )


def test_decidedness_is_told_beside_the_most_it_can_be():
    text = entropy_finding([{"epoch": 2, "entropy": {"normal": 1.0397, "other": 0.5}}], {"normal": 8})
    assert text == "At epoch 2: normal 1.040 of at most 2.079 (50\u00a0%), other 0.500 nats."
    assert entropy_finding([{"epoch": 1}], {}) == "No entropy has been recorded."


def test_the_truth_says_what_was_lost():
    records = [
        {"epoch": 0, "true_acc": 0.9},
        {"epoch": 1, "true_acc": 0.94},
        {"epoch": 2, "true_acc": None},
        {"epoch": 3, "true_acc": 0.543},
    ]
    text = ground_truth_finding(records, 0.543, 0.4007).replace("\u00a0", " ")
    assert text.startswith(
        "By the table of NAS-Bench-201 the cell has a test accuracy of 54.30 %, 40.07 points below the best"
    )
    assert text.endswith(
        "At epoch 1 the search would have chosen a cell with 94.00 %; since then it has lost 39.70 points."
    )
    assert "epoch" not in ground_truth_finding(records, 0.94, 0.0037) and "epoch" not in ground_truth_finding(
        [], 0.94, 0.0037
    )
    assert ground_truth_finding(records, None, None) == ""
