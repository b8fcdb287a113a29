"""The figures of a study: what they say, and that names and points stay within them."""

from __future__ import annotations

import warnings

import pytest

from oche.analysis import Ranking, summarise
from oche.analysis import critical_difference as difference
from oche.report.metrics import ACCURACY
from oche.report.plots import style
from oche.report.plots.study import Panel, critical_difference, incumbents, intervals, mean_curve, rank_agreement

RANKS = {"one": 1.2, "two": 1.9, "three": 3.1, "four": 3.8}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_intervals_have_a_row_a_group_with_every_seed():
    results = {"gdas": [0.9, 0.92, 0.91], "random": [0.8, 0.85]}
    figure = intervals(results, {n: summarise(v) for n, v in results.items()}, "test accuracy", ACCURACY, ["random"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["random (n=2)", "gdas (n=3)"]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert sorted(x for line in points for x in line.get_xdata()) == pytest.approx([80, 85, 90, 91, 92])
    lines = [line.get_xdata() for line in axes.lines if line.get_marker() == "None"]
    assert len(lines) == 1 and 90 <= lines[0][0] < 91 < lines[0][1] <= 92  # two seeds have no interval
    assert axes.get_xlabel() == "test accuracy (%)"


@pytest.mark.parametrize("k", [3, 4, 7, 16])
def test_a_critical_difference_diagram_holds_all_names_in_the_picture(k):
    ranks = {f"method {i} with a rather long name": 1 + i * (k - 1) / k for i in range(k)}
    figure = critical_difference(Ranking(ranks, (0, 1, 2), 5.0, 1.0, 0.01, difference(k, 3)), "Ranks")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent() for text in axes.texts]
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    assert sum("method" in text.get_text() for text in axes.texts) == k
    assert style.svg(figure).startswith("<?xml")


def test_bars_join_what_does_not_differ():
    figure = critical_difference(Ranking(RANKS, (0, 1, 2), 5.0, 1.0, 0.01, 1.3))
    thick = [line.get_xdata() for line in figure.axes[0].lines if line.get_linewidth() > 3]
    assert [(round(a, 1), round(b, 1)) for a, b in thick] == [(1.2, 1.9), (1.9, 3.1), (3.1, 3.8)]


def test_the_mean_curve_is_taken_where_all_curves_have_values():
    one, two = [(1.0, 0.1), (3.0, 0.5), (9.0, 0.9)], [(2.0, 0.3), (4.0, 0.4)]
    found = mean_curve([one, two])
    assert [time for time, _ in found] == [2.0, 3.0, 4.0]
    assert [value for _, value in found] == pytest.approx([0.2, 0.4, 0.45])
    assert mean_curve([one, []]) == ()


def test_incumbents_and_agreement_draw_every_group():
    curve = [(1.0, 0.1), (2.0, 0.4)]
    panels = {
        "p": Panel(ACCURACY, {"a": [curve, curve], "b": [curve]}),
        "q": Panel(ACCURACY, {"b": [curve]}, [0.2]),
    }
    figure = incumbents(panels, "s")
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b", "target"]
    assert len(figure.axes[0].lines) == 5 and len(figure.axes[1].lines) == 3
    assert [*figure.axes[1].lines[-1].get_ydata()] == [20.0, 20.0]
    panels = rank_agreement({"a": [(1.0, 2.0)], "b": [(2.0, 1.0)], "c": [(1.0, 1.0)], "d": [(2.0, 2.0)]})
    assert [axes.get_title() for axes in panels.axes if axes.get_visible()] == ["a", "b", "c", "d"]
