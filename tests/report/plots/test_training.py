"""The data that the figures draw are the data given, and all their text can be read."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from matplotlib.figure import Figure

from oche.core.architecture import Dag
from oche.report.plots import canvas
from oche.report.plots import training as plots
from report_runs import OPERATIONS, search_records, toy_data

EDGES = Dag().edges


def make_history(epochs=4, edges=EDGES, operations=OPERATIONS, seed=0):
    draw = random.Random(seed)
    history = []
    for epoch in range(epochs):
        rows = [[draw.random() for _ in operations] for _ in edges]
        history.append((epoch, [[v / sum(row) for v in row] for row in rows]))
    return history


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


def mesh(axes) -> list[list[float]]:
    return axes.collections[0].get_array().reshape(-1, axes.collections[0].get_coordinates().shape[1] - 1).tolist()


def test_heat_map_has_edges_along_x_and_operations_along_y():
    weights = make_history()[-1][1]
    figure = plots.alpha_heatmap(weights, EDGES, OPERATIONS, "normal", chosen=[(0, 4), (13, 1)])
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
    axes = plots.alpha_heatmap(weights, EDGES, OPERATIONS).axes[0]
    quad = axes.collections[0]
    for text in axes.texts:
        e, o = (int(c) for c in text.get_position())
        high, low = sorted((brightness(text.get_color()), brightness(quad.to_rgba(weights[e][o])[:3])), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 3


def test_snapshots_share_one_scale_from_first_to_last_epoch():
    history = make_history(10)
    figure = plots.alpha_snapshots(history, EDGES, OPERATIONS, "normal")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["epoch 0", "epoch 3", "epoch 6", "epoch 9"]
    for axes, k in zip(panels, (0, 3, 6, 9), strict=True):
        assert mesh(axes) == [[row[o] for row in history[k][1]] for o in range(8)]
    values = [v for _, weights in history for row in weights for v in row]
    assert {axes.collections[0].get_clim() for axes in panels} == {(min(values), max(values))}
    assert_legible(figure)


def test_evolution_has_one_panel_an_edge_and_one_curve_an_operation():
    history = make_history(6)
    figure = plots.alpha_evolution(history, EDGES, OPERATIONS, "normal")
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
    figure = plots.operation_shares({"normal": (OPERATIONS, history), "reduce": (OPERATIONS, history)})
    for axes in figure.axes:
        for o, line in enumerate(axes.lines):
            expected = [math.fsum(row[o] for row in weights) / 14 for _, weights in history]
            assert list(line.get_ydata()) == pytest.approx(expected, rel=1e-12)
    assert_legible(figure)


def test_learning_curves_bridge_what_is_missing():
    records = [
        {"epoch": 1, "train_loss": 2.0, "train_acc": 0.2, "val_acc": 0.1},
        {"epoch": 2, "train_loss": None, "train_acc": 0.4, "val_acc": None},
        {"epoch": 4, "train_loss": 1.0, "train_acc": 0.5, "val_acc": 0.3},
    ]
    figure = plots.learning_curves(records, "Search")
    loss, accuracy = figure.axes
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in loss.lines}
    assert drawn == {"train": [(1, 2.0), (4, 1.0)]}
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in accuracy.lines}
    assert drawn == {"train": [(1, 20.0), (2, 40.0), (4, 50.0)], "val": [(1, 10.0), (4, 30.0)]}
    assert_legible(figure)


def test_entropy_is_drawn_below_that_of_the_uniform_mixture():
    records = search_records(8)
    figure = plots.entropy(records, 8)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    for name in ("normal", "reduce"):
        assert lines[name] == [r["entropy"][name] for r in records if "entropy" in r]
    assert lines["uniform over 8"] == [math.log(8)] * 2
    assert_legible(figure)


def test_skip_share_is_drawn_on_the_scale_from_none_to_all():
    records = search_records(20, skips=1.0)
    figure = plots.skip_share(records)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["normal"] == [r["skip_share"]["normal"] for r in records if "skip_share" in r]
    low, high = figure.axes[0].get_ylim()
    assert low <= 0 and high >= 1
    assert_legible(figure)


def test_toy_paths_run_from_the_start_to_their_ends():
    toy = toy_data()
    figure = plots.toy_trajectories(toy)
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
    figure = plots.toy_trajectories(toy)
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


def test_comparison_shows_every_network_and_the_spread():
    figure = plots.comparison(0.98, [0.95, 0.96, 0.97])
    axes = figure.axes[0]
    band = axes.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((95.0, 97.0))
    mean, random_cells, found = axes.lines
    assert list(mean.get_xdata()) == pytest.approx([96, 96])
    assert list(random_cells.get_xdata()) == pytest.approx([95, 96, 97])
    assert list(found.get_xdata()) == pytest.approx([98])
    assert labels(axes.get_yticklabels()) == ["random cells (n=3)", "found cell"]
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


@pytest.mark.parametrize("name", EXTREMES)
def test_mixtures_of_any_shape_are_drawn(name):
    history = EXTREMES[name]
    weights = history[-1][1]
    edges = FORTY if name == "forty edges" else EDGES[: len(weights)]
    operations = OPERATIONS[: len(weights[0])]
    drawn = (
        plots.alpha_heatmap(weights, edges, operations, f"normal cell: softmax(α) at epoch {history[-1][0]}"),
        plots.alpha_snapshots(history, edges, operations, "normal cell: softmax(α) over epochs"),
        plots.alpha_evolution(history, edges, operations, "normal cell: softmax(α) over epochs"),
        plots.operation_shares({"normal": (operations, history)}),
    )
    for figure in drawn:
        assert_legible(figure)


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
    assert_legible(plots.learning_curves(records, "Search"))
    groups = [r | {"entropy": {"normal": r.get("train_loss") or 0.0}, "skip_share": {"normal": 1.0}} for r in records]
    assert_legible(plots.entropy(groups, 8))
    assert_legible(plots.skip_share(groups))


@pytest.mark.parametrize("random_cells", [[0.5], [0.5, 0.5], [0.0, 1.0], [0.975, 0.9750001]])
def test_comparisons_of_extremes_are_drawn(random_cells):
    assert_legible(plots.comparison(0.5, random_cells, name="a name that is far too long to be shown in full"))


def test_toy_of_a_single_point_is_drawn():
    still = {"xi": 0.0, "iterations": 0, "trajectory": [(2.0, -2.0)]}
    assert_legible(plots.toy_trajectories({"optimum": (1, 1), "start": (2, -2), "runs": [still]}))


def test_names_are_text_and_never_mathematics():
    names = ("$x^2$", "$\\frac$", "a_b", "<b>&", "ένα", "x" * 100)
    history = make_history(2, edges=EDGES[:2], operations=names)
    figure = plots.alpha_heatmap(history[-1][1], EDGES[:2], names, "$\\nonsense{$ & <title>")
    assert labels(figure.axes[0].get_yticklabels())[:2] == ["$x^2$", "$\\frac$"]
    assert "$\\frac$" in canvas.svg(figure) and canvas.png(figure).startswith(b"\x89PNG")
    assert "$\\frac$" in canvas.svg(plots.operation_shares({"$\\cell$": (names, history)}))


def test_a_figure_gives_the_same_svg_twice():
    weights = make_history()[-1][1]
    first, second = (canvas.svg(plots.alpha_heatmap(weights, EDGES, OPERATIONS, "normal")) for _ in range(2))
    assert first == second


def collapsing(epochs=20):
    """A search that finds a good cell and loses it to skip connections."""
    values = [0.90 + 0.04 * e / 8 if e <= 8 else max(0.543, 0.94 - 0.05 * (e - 8)) for e in range(epochs + 1)]
    return [{"epoch": e, "true_acc": value, "regret": 0.9437 - value} for e, value in enumerate(values)]


def test_the_truth_is_drawn_in_per_cent_below_the_best():
    records = collapsing()
    figure = plots.truth(records, 0.9437)
    assert_legible(figure)
    curve, best = figure.axes[0].lines
    assert list(curve.get_xdata()) == list(range(21))
    assert list(curve.get_ydata()) == pytest.approx([100 * r["true_acc"] for r in records])
    assert list(best.get_ydata()) == pytest.approx([94.37, 94.37])
    assert "best cell of the space: 94.37" in canvas.svg(figure)
    assert len(plots.truth(records[:1]).axes[0].lines) == 1
    for few in (records[:1], records[:2], [{"epoch": 3}, {"epoch": 4, "true_acc": 0.1}]):
        assert_legible(plots.truth(few, 0.9437))
