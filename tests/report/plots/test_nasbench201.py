"""The accuracy of chosen cells, below the best of the table."""

from __future__ import annotations

import pytest

from oche.report.plots import curves, style
from report_figures import assert_legible


def collapsing(epochs=20):
    """A search that finds a good cell and loses it to skip connections."""
    values = [0.90 + 0.04 * e / 8 if e <= 8 else max(0.543, 0.94 - 0.05 * (e - 8)) for e in range(epochs + 1)]
    return [{"epoch": e, "true_acc": value, "regret": 0.9437 - value} for e, value in enumerate(values)]


def test_the_truth_is_drawn_in_per_cent_below_the_best():
    records = collapsing()
    figure = curves.true_accuracy(records, 0.9437)
    assert_legible(figure)
    curve, best = figure.axes[0].lines
    assert list(curve.get_xdata()) == list(range(21))
    assert list(curve.get_ydata()) == pytest.approx([100 * r["true_acc"] for r in records])
    assert list(best.get_ydata()) == pytest.approx([94.37, 94.37])
    assert "best cell of the space: 94.37" in style.svg(figure)
    assert len(curves.true_accuracy(records[:1]).axes[0].lines) == 1
    for few in (records[:1], records[:2], [{"epoch": 3}, {"epoch": 4, "true_acc": 0.1}]):
        assert_legible(curves.true_accuracy(few, 0.9437))
