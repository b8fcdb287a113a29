"""Checks of matplotlib figures: their labels, and whether all their text can be read."""

from __future__ import annotations

import itertools
import random

from matplotlib.figure import Figure

from oche.core.architecture import Dag
from report_runs import OPERATIONS


def labels(ticks):
    return [tick.get_text() for tick in ticks]


def texts(figure: Figure) -> list:
    """(text, its box in pixels) of everything that can be read in the figure."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    hidden = {child for axes in figure.axes if not axes.get_visible() for child in axes.findobj(Text)}
    for axes in figure.axes:  # ticks outside the limits are kept but not drawn
        for axis in (axes.xaxis, axes.yaxis):
            drawn = set(axis._update_ticks())
            for tick in {*axis.get_major_ticks(), *axis.get_minor_ticks()} - drawn:
                hidden |= set(tick.findobj(Text))
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text() and t not in hidden]
    return [(t.get_text(), t.get_window_extent()) for t in shown]


def assert_legible(figure: Figure) -> None:
    """No text leaves the figure or lies on another."""
    found = texts(figure)
    assert found
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in found:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, f"{text!r} is cut off"
    for (one, a), (two, b) in itertools.combinations(found, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one!r} lies on {two!r}"


EDGES = Dag().edges


def make_history(epochs=4, edges=EDGES, operations=OPERATIONS, seed=0):
    draw = random.Random(seed)
    history = []
    for epoch in range(epochs):
        rows = [[draw.random() for _ in operations] for _ in edges]
        history.append((epoch, [[v / sum(row) for v in row] for row in rows]))
    return history
