"""Figures of a classifier's results draw the numbers and images given."""

from __future__ import annotations

import pytest

from oche.report.plots.classification import confusion_matrix, mistakes, reliability_diagram
from report_figures import assert_legible
from report_runs import assessment


def test_the_confusion_matrix_has_true_classes_as_rows():
    figure = confusion_matrix(found := assessment())
    axes = figure.axes[0]
    written = {(round(t.get_position()[1] - 0.5), round(t.get_position()[0] - 0.5)): t.get_text() for t in axes.texts}
    assert written == {(i, j): str(n) for i, row in enumerate(found.confusion) for j, n in enumerate(row) if n}
    assert axes.get_ylabel() == "true class" and axes.get_xlabel() == "predicted class"
    assert_legible(figure)


def test_the_reliability_diagram_has_a_bar_for_each_bin_with_images():
    figure = reliability_diagram(found := assessment())
    upper, lower = figure.axes
    known = [b for b in found.bins if b.count]
    assert [bar.get_height() for bar in upper.patches] == pytest.approx([100 * b.accuracy for b in known])
    assert [bar.get_height() for bar in lower.patches] == [b.count for b in known]


def test_every_mistake_is_drawn_with_both_classes():
    figure = mistakes(found := assessment())
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == len(found.mistakes)
    assert drawn[0].get_title() == "pred. a 90.0 %\ntrue c 5.0 %"
