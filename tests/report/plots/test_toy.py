"""The figure of the toy problem draws the trajectories and contours given."""

from __future__ import annotations

import pytest

from oche.report.plots.toy import toy_trajectories
from report_figures import assert_legible
from report_runs import toy_data


def test_toy_paths_run_from_the_start_to_their_ends():
    toy = toy_data()
    figure = toy_trajectories(toy)
    axes = figure.axes[0]
    paths = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    for run in toy["runs"]:
        path = paths[f"ξ = {run['xi']:g}: {run['iterations']} iterations"]
        assert path[0] == [2, -2] and path[-1] == run["trajectory"][-1]
        assert all(point in run["trajectory"] for point in path)
    assert paths["start"] == [[2, -2]]
    assert paths["optimum (1, 1)"] == [[1, 1]]
    assert all(a == pytest.approx(w) for a, w in paths["feasible: w = α"])
    assert_legible(figure)


def test_toy_contours_are_those_of_the_validation_loss_and_their_labels_touch_no_path():
    toy = toy_data()
    figure = toy_trajectories(toy)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    contours = next(c for c in axes.collections if hasattr(c, "levels"))
    for level, segments in zip(contours.levels, contours.allsegs, strict=True):
        for a, w in (point for segment in segments for point in segment):
            assert a * w - 2 * a + 1 == pytest.approx(level, abs=0.02)  # linear between the grid's points
    points = axes.transData.transform([p for run in toy["runs"] for p in run["trajectory"]])
    assert len(axes.texts) >= 6
    for text in axes.texts:
        box = text.get_window_extent()
        assert not box.count_contains(points), text.get_text()


def test_toy_of_a_single_point_is_drawn():
    still = {"xi": 0.0, "iterations": 0, "trajectory": [(2.0, -2.0)]}
    assert_legible(toy_trajectories({"optimum": (1, 1), "start": (2, -2), "runs": [still]}))
