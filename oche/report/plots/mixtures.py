"""Figures of mixture weights: heat maps, and the weight of each operation over epochs.

Shapes: E edges of a cell, O candidate operations. A *history* is a list of (epoch, weights (E, O)).
Every function returns a `matplotlib.figure.Figure` without using pyplot; `style.svg` turns it into text, for a file or a page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oche.core.architecture import cell_title
from oche.report.drawings.scene import clip
from oche.report.heatmap import colour_limits
from oche.report.plots.curves import TITLE, whole_epochs
from oche.report.plots.style import PAPER, line_styles, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Weights = Sequence[Sequence[float]]  # (E, O)
History = Sequence[tuple[int, Weights]]
Edges = Sequence[tuple[int, int]]


@styled
def alpha_heatmap(
    weights: Weights,
    edges: Edges,
    candidates: Sequence[str],
    title: str = "",
    inputs: int = 2,
    chosen: Sequence[tuple[int, int]] = (),
) -> Figure:
    """Draw weights (E, O) as a heat map, as the seed's Figures 5 and 6: edges along x, operations along y.

    ``inputs``: number of input nodes, named below the axis. ``chosen``: (edge, operation) index pairs that get a frame.
    Squares show their value where there are at most 16 edges.
    """
    count, ops = len(edges), len(candidates)
    figure = new_figure(max(5.2, 2.4 + (0.47 if count <= 16 else 0.24) * count), 1.35 + 0.3 * ops)
    axes = figure.add_subplot()
    mesh = _mesh(axes, weights, _limits([weights]))
    _edge_ticks(axes, edges)
    axes.set_yticks([o + 0.5 for o in range(ops)], [clip(name, 24) for name in candidates])
    axes.set_title(clip(title, TITLE))
    nodes = " and ".join(str(i) for i in range(inputs))
    axes.set_xlabel(f"edge: source → target (the cell's input{'s are' if inputs > 1 else ' is'} {nodes})")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=25)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    _frame(axes, chosen)
    if count <= 16:
        _annotate(axes, weights, mesh)
    return figure


def _limits(all_weights: Sequence[Weights]) -> tuple[float, float]:
    """Return the weights at both ends of the colours, see `oche.report.heatmap.colour_limits`."""
    values = [value for weights in all_weights for row in weights for value in row if math.isfinite(value)]
    operations = max((len(row) for weights in all_weights for row in weights), default=1)
    return colour_limits(operations, max(values, default=0.0))


def _mesh(axes: Axes, weights: Weights, limits: tuple[float, float]):
    """Draw the squares of a heat map, the first operation on top, and return matplotlib's mesh of them."""
    from matplotlib import colormaps

    columns = [list(column) for column in zip(*weights, strict=True)]  # (O, E)
    colours = colormaps["viridis"].resampled(64)
    mesh = axes.pcolormesh(columns, vmin=limits[0], vmax=limits[1], cmap=colours, edgecolors=PAPER, linewidth=0.4)
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh


def _edge_ticks(axes: Axes, edges: Edges) -> None:
    axes.set_xticks([e + 0.5 for e in range(len(edges))], [f"{i}→{j}" for i, j in edges])
    if len(edges) > 16:
        axes.tick_params(axis="x", labelrotation=90, labelsize=8)


def _frame(axes: Axes, chosen: Sequence[tuple[int, int]]) -> None:
    """Draw a frame around the squares at (edge, operation)."""
    from matplotlib.patches import Rectangle

    for e, o in chosen:
        axes.add_patch(Rectangle((e + 0.05, o + 0.06), 0.9, 0.88, fill=False, edgecolor="#ff4f3a", linewidth=2))


def _annotate(axes: Axes, weights: Weights, mesh) -> None:
    """Write each value into its square."""
    middle = (mesh.norm.vmin + mesh.norm.vmax) / 2
    values = [value for row in weights for value in row if math.isfinite(value)]
    digits = (
        2 if max(values, default=0) - min(values, default=0) >= 0.05 else 3
    )  # early in a search they are almost equal
    for e, row in enumerate(weights):
        for o, value in enumerate(row):
            colour = "#101418" if value > middle else "#f6f8fa"
            axes.text(e + 0.5, o + 0.5, f"{value:.{digits}f}", ha="center", va="center", size=7.5, color=colour)


@styled
def alpha_snapshots(history: History, edges: Edges, candidates: Sequence[str], title: str = "") -> Figure:
    """Draw the heat maps of up to four epochs, from the first to the last, with one colour scale."""
    picks = sorted({round(i * (len(history) - 1) / 3) for i in range(4)})
    shown = [history[i] for i in picks]
    figure = new_figure(2.2 + max(2.6, 0.2 * len(edges) + 0.3), 0.9 + len(shown) * (0.35 + 0.17 * len(candidates)))
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    limits = _limits([weights for _, weights in history])
    mesh = None
    for axes, (epoch, weights) in zip(panels, shown, strict=True):
        mesh = _mesh(axes, weights, limits)
        axes.set_yticks([o + 0.5 for o in range(len(candidates))], [clip(name, 24) for name in candidates], size=7.5)
        axes.set_title(f"epoch {epoch}", size=9)
    panels[-1].set_xticks([e + 0.5 for e in range(len(edges))], [f"{i}→{j}" for i, j in edges], rotation=90, size=7.5)
    bar = figure.colorbar(mesh, ax=list(panels), pad=0.02, aspect=40)  # pyright: ignore[reportArgumentType]
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    figure.suptitle(clip(title, TITLE), size=10, weight="bold")
    return figure


@styled
def alpha_evolution(history: History, edges: Edges, candidates: Sequence[str], title: str = "") -> Figure:
    """Draw the weight of each operation over epochs, one panel for each edge: rows are target nodes, columns sources."""
    targets, sources = sorted({j for _, j in edges}), sorted({i for i, _ in edges})
    head = 0.45 + 0.2 * math.ceil(len(candidates) / 4)
    width, height = max(5.2, 0.6 + 1.7 * len(sources)), 0.5 + head + 1.25 * len(targets)
    figure = new_figure(width, height, layout=None)
    grid = figure.subplots(len(targets), len(sources), squeeze=False, sharex=True, sharey=True)
    figure.subplots_adjust(0.55 / width, 0.45 / height, 1 - 0.1 / width, 1 - (head + 0.25) / height, 0.12, 0.38)
    lines: list[Any] = []
    for axes in grid.flat:
        axes.set_visible(False)
    for e, (i, j) in enumerate(edges):
        axes = grid[targets.index(j), sources.index(i)]
        axes.set_visible(True)
        lines = _series(axes, history, candidates, lambda weights, o, e=e: weights[e][o])
        axes.set_title(f"{i}→{j}", size=8.5, pad=2)
        last = not any(k > j and s == i for s, k in edges)
        axes.tick_params(labelsize=7, labelbottom=last, labelleft=i == min(s for s, k in edges if k == j))
    grid[0, 0].set_ylim(0, 1.05 * _limits([weights for _, weights in history])[1])
    figure.supxlabel("epoch", size=9, y=0.06 / height)
    figure.suptitle(clip(title, TITLE), size=10, weight="bold", y=1 - 0.08 / height, va="top")
    names = [clip(name, 20) for name in candidates]
    figure.legend(lines, names, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.26 / height), ncols=4, fontsize=8)
    return figure


def _series(
    axes: Axes, history: History, candidates: Sequence[str], value: Callable[[Weights, int], float]
) -> list[Any]:
    """Draw ``value(weights, operation)`` over epochs, one curve for each operation (points if there is one epoch only)."""
    epochs = [epoch for epoch, _ in history]
    marker = "o" if len(epochs) == 1 else None
    lines = []
    for o, (colour, dash) in enumerate(line_styles(list(candidates))):
        ys = [value(weights, o) for _, weights in history]
        lines += axes.plot(epochs, ys, color=colour, linestyle=dash, linewidth=1.3, marker=marker, markersize=3)
    whole_epochs(axes)
    return lines


@styled
def operation_shares(groups: Mapping[str, tuple[Sequence[str], History]]) -> Figure:
    """Draw the mean weight of each operation over the edges of a cell, one panel for each cell type.

    ``groups``: cell type → (names of the O candidates, history).
    """
    figure = new_figure(5.2, 0.6 + 2.6 * len(groups))
    panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, (name, (candidates, history)) in zip(panels, groups.items(), strict=True):
        lines = _series(axes, history, candidates, lambda w, o: sum(row[o] for row in w) / len(w))
        axes.set(title=clip(cell_title(name), 32), ylabel="mean weight")
        axes.set_ylim(bottom=0)
        names = [clip(c, 18) for c in candidates]
        axes.legend(lines, names, loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=8)
    panels[-1].set_xlabel("epoch")
    return figure
