"""Summaries of one group against Efron and Tibshirani 1993 and counting by hand."""

from __future__ import annotations

import math
import random
import statistics as std

import numpy as np
import pytest

from oche.analysis import Undetermined, interval, summarise
from oche.analysis.summary import differ

# Efron and Tibshirani 1993, table 14.1: spatial test data A
SPATIAL = (48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41)


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
    said = found if isinstance(found, Undetermined) else found.interval
    assert isinstance(said, Undetermined) and said.why
    if len(values) == 1:
        assert isinstance(found.sd, Undetermined)


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_of_few_values_is_one_or_says_why_not(seed):
    draw = random.Random(seed)
    values = [round(draw.gauss(0.9, 0.01), 2) for _ in range(3)]  # two digits: ties are common
    found = interval(values)
    if not isinstance(found, Undetermined):
        assert min(values) - 1e-12 <= found[0] <= found[1] <= max(values) + 1e-12


@pytest.mark.parametrize(
    ("a", "b", "images", "answer"),
    [
        (0.5, 0.5, None, False),
        (0.5, 0.5000001, None, True),
        (0.5, 0.5, 1000, False),
        (0.60, 0.50, 188, False),  # 1.96 √((.24 + .25) / 188) = 0.10006; with 189 images 0.0998
        (0.60, 0.50, 189, True),
        (1.0, 0.0, 1, True),
        (0.99, 0.97, 300, False),
        (0.99, 0.97, 3000, True),
    ],
)
def test_two_accuracies_differ_by_more_than_chance(a, b, images, answer):
    assert differ(a, b, images) is answer and differ(b, a, images) is answer
