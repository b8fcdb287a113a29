"""Figures of mixture weights draw the weights given, and all their text can be read."""

from __future__ import annotations

import math

import pytest

from oche.core.architecture import Dag
from oche.report.plots import mixtures
from report_figures import assert_legible, labels, make_history
from report_runs import OPERATIONS

EDGES = Dag().edges


def mesh(axes) -> list[list[float]]:
    return axes.collections[0].get_array().reshape(-1, axes.collections[0].get_coordinates().shape[1] - 1).tolist()


def test_heat_map_has_edges_along_x_and_operations_along_y():
    weights = make_history()[-1][1]
    figure = mixtures.alpha_heatmap(weights, EDGES, OPERATIONS, "normal", chosen=[(0, 4), (13, 1)])
    axes = figure.axes[0]
    assert mesh(axes) == [[row[o] for row in weights] for o in range(8)]
    assert labels(axes.get_xticklabels()) == [f"{i}→{j}" for i, j in EDGES]
    assert labels(axes.get_yticklabels()) == list(OPERATIONS)
    top, bottom = axes.get_ylim()[::-1]
    assert top < bottom  # the first operation is the top row
    assert {t.get_position(): t.get_text() for t in axes.texts} == {
        (e + 0.5, o + 0.5): f"{weights[e][o]:.2f}" for e in range(14) for o in range(8)
    }
    centres = {(p.get_x() + p.get_width() / 2, p.get_y() + p.get_height() / 2) for p in axes.patches}
    assert centres == {(0.5, 4.5), (13.5, 1.5)}
    assert_legible(figure)


def test_numbers_on_the_heat_map_stand_out_from_their_square():
    def brightness(colour):
        from matplotlib.colors import to_rgb

        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    weights = [[(8 * e + o) / 111 for o in range(8)] for e in range(14)]
    axes = mixtures.alpha_heatmap(weights, EDGES, OPERATIONS).axes[0]
    quad = axes.collections[0]
    for text in axes.texts:
        e, o = (int(c) for c in text.get_position())
        high, low = sorted((brightness(text.get_color()), brightness(quad.to_rgba(weights[e][o])[:3])), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 3


def test_snapshots_share_one_scale_from_first_to_last_epoch():
    history = make_history(10)
    figure = mixtures.alpha_snapshots(history, EDGES, OPERATIONS, "normal")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["epoch 0", "epoch 3", "epoch 6", "epoch 9"]
    for axes, k in zip(panels, (0, 3, 6, 9), strict=True):
        assert mesh(axes) == [[row[o] for row in history[k][1]] for o in range(8)]
    values = [v for _, weights in history for row in weights for v in row]
    assert {axes.collections[0].get_clim() for axes in panels} == {(0, max(3 / 8, *values))}
    assert_legible(figure)


def test_evolution_has_one_panel_an_edge_and_one_curve_an_operation():
    history = make_history(6)
    figure = mixtures.alpha_evolution(history, EDGES, OPERATIONS, "normal")
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert set(panels) == {f"{i}→{j}" for i, j in EDGES}
    for e, (i, j) in enumerate(EDGES):
        lines = panels[f"{i}→{j}"].lines
        for o in range(8):
            assert list(lines[o].get_xdata()) == [epoch for epoch, _ in history]
            assert list(lines[o].get_ydata()) == [weights[e][o] for _, weights in history]
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 8
    assert labels(figure.legends[0].get_texts()) == list(OPERATIONS)
    assert_legible(figure)


def test_operation_shares_are_means_over_edges():
    history = make_history(3)
    figure = mixtures.operation_shares({"normal": (OPERATIONS, history), "reduce": (OPERATIONS, history)})
    for axes in figure.axes:
        for o, line in enumerate(axes.lines):
            expected = [math.fsum(row[o] for row in weights) / 14 for _, weights in history]
            assert list(line.get_ydata()) == pytest.approx(expected, rel=1e-12)
    assert_legible(figure)


FORTY = tuple((i, j) for j in range(2, 10) for i in range(j))[:40]
EXTREMES = {
    "one epoch": make_history(1),
    "one edge": make_history(3, edges=EDGES[:1]),
    "one operation": make_history(3, operations=OPERATIONS[:1]),
    "forty edges": make_history(3, edges=FORTY),
    "all alike": [(e, [[0.125] * 8 for _ in EDGES]) for e in range(3)],
    "not a number": [(0, make_history()[0][1]), (1, [[math.nan] * 8 for _ in EDGES])],
    "many epochs": make_history(300),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTREMES)
def test_mixtures_of_any_shape_are_drawn(name):
    history = EXTREMES[name]
    weights = history[-1][1]
    edges = FORTY if name == "forty edges" else EDGES[: len(weights)]
    operations = OPERATIONS[: len(weights[0])]
    drawn = (
        mixtures.alpha_heatmap(weights, edges, operations, f"normal cell: softmax(α) at epoch {history[-1][0]}"),
        mixtures.alpha_snapshots(history, edges, operations, "normal cell: softmax(α) over epochs"),
        mixtures.alpha_evolution(history, edges, operations, "normal cell: softmax(α) over epochs"),
        mixtures.operation_shares({"normal": (operations, history)}),
    )
    for figure in drawn:
        assert_legible(figure)
