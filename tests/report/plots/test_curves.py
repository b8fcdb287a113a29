"""Curves draw the records given, and all their text can be read."""

from __future__ import annotations

import math

import pytest

from oche.report.plots import curves
from report_figures import assert_legible, labels
from report_runs import search_records


def test_learning_curves_bridge_what_is_missing():
    records = [
        {"epoch": 1, "train_loss": 2.0, "train_acc": 0.2, "val_acc": 0.1},
        {"epoch": 2, "train_loss": None, "train_acc": 0.4, "val_acc": None},
        {"epoch": 4, "train_loss": 1.0, "train_acc": 0.5, "val_acc": 0.3},
    ]
    figure = curves.learning_curves(records, "Search")
    loss, accuracy = figure.axes
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in loss.lines}
    assert drawn == {"train": [(1, 2.0), (4, 1.0)]}
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in accuracy.lines}
    assert drawn == {"train": [(1, 20.0), (2, 40.0), (4, 50.0)], "val": [(1, 10.0), (4, 30.0)]}
    assert_legible(figure)


def test_entropy_is_drawn_below_that_of_the_uniform_mixture():
    records = search_records(8)
    figure = curves.entropy(records, 8)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    for name in ("normal", "reduce"):
        assert lines[name] == [r["entropy"][name] for r in records if "entropy" in r]
    assert lines["uniform over 8"] == [math.log(8)] * 2
    assert_legible(figure)


def test_skip_share_is_drawn_on_the_scale_from_none_to_all():
    records = search_records(20, skips=1.0)
    figure = curves.skip_share(records)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["normal"] == [r["skip_share"]["normal"] for r in records if "skip_share" in r]
    low, high = figure.axes[0].get_ylim()
    assert low <= 0 and high >= 1
    assert_legible(figure)


def test_comparison_shows_every_network_and_the_spread():
    figure = curves.found_and_random(0.98, [0.95, 0.96, 0.97])
    axes = figure.axes[0]
    band = axes.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((95.0, 97.0))
    mean, random_cells, found = axes.lines
    assert list(mean.get_xdata()) == pytest.approx([96, 96])
    assert list(random_cells.get_xdata()) == pytest.approx([95, 96, 97])
    assert list(found.get_xdata()) == pytest.approx([98])
    assert labels(axes.get_yticklabels()) == ["random cells (n=3)", "found cell"]
    assert_legible(figure)


@pytest.mark.slow
@pytest.mark.parametrize(
    "records",
    [
        [{"epoch": 1, "train_loss": 1.0, "val_acc": 0.5}],
        [{"epoch": 1}],
        [{"epoch": e, "train_loss": math.nan, "train_acc": math.nan} for e in (1, 2)],
        [{"epoch": 1, "train_loss": 1e30, "val_loss": -1e-30, "val_acc": 1.0}],
    ],
)
def test_curves_of_next_to_nothing_are_drawn(records):
    assert_legible(curves.learning_curves(records, "Search"))
    groups = [r | {"entropy": {"normal": r.get("train_loss") or 0.0}, "skip_share": {"normal": 1.0}} for r in records]
    assert_legible(curves.entropy(groups, 8))
    assert_legible(curves.skip_share(groups))


@pytest.mark.parametrize("random_cells", [[0.5], [0.5, 0.5], [0.0, 1.0], [0.975, 0.9750001]])
def test_comparisons_of_extremes_are_drawn(random_cells):
    assert_legible(curves.found_and_random(0.5, random_cells, name="a name that is far too long to be shown in full"))
