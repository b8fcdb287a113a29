"""The figures of a report, drawn with matplotlib's objects (never pyplot: no global state, no display).

Shapes: E edges of a cell, O candidate operations, T recorded epochs. A *history* is a list of (epoch, weights (E, O)).
Every function returns a `matplotlib.figure.Figure`; `canvas.svg` turns it into text, for a file or a page.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oche.core.architecture import titled
from oche.report.drawings.scene import clip
from oche.report.metric_names import ACCURACY, Measure
from oche.report.plots.canvas import new_figure, styled
from oche.report.plots.palette import INK, MUTED, PAPER, SERIES, VERMILION, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Weights = Sequence[Sequence[float]]  # (E, O)
History = Sequence[tuple[int, Weights]]
Edges = Sequence[tuple[int, int]]

_TITLE = 48  # characters that fit over the narrowest figure


@styled
def alpha_heatmap(
    weights: Weights,
    edges: Edges,
    candidates: Sequence[str],
    title: str = "",
    inputs: int = 2,
    chosen: Sequence[tuple[int, int]] = (),
) -> Figure:
    """Candidate weights (E, O) as the seed's Figures 5 and 6: edges along x, operations along y.

    ``chosen`` lists (edge, operation) index pairs to frame. Cells carry their value where there are few enough.
    """
    count, ops = len(edges), len(candidates)
    figure = new_figure(max(5.2, 2.4 + (0.47 if count <= 16 else 0.24) * count), 1.35 + 0.3 * ops)
    axes = figure.add_subplot()
    mesh = _mesh(axes, weights, _limits([weights]))
    _edge_ticks(axes, edges)
    axes.set_yticks([o + 0.5 for o in range(ops)], [clip(name, 24) for name in candidates])
    axes.set_title(clip(title, _TITLE))
    nodes = " and ".join(str(i) for i in range(inputs))
    axes.set_xlabel(f"edge: source → target (the cell's input{'s are' if inputs > 1 else ' is'} {nodes})")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=25)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    _frame(axes, chosen)
    if count <= 16:
        _annotate(axes, weights, mesh)
    return figure


def _limits(all_weights: Sequence[Weights]) -> tuple[float, float]:
    values = [value for weights in all_weights for row in weights for value in row if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _mesh(axes: Axes, weights: Weights, limits: tuple[float, float]):
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
    from matplotlib.patches import Rectangle

    for e, o in chosen:
        axes.add_patch(Rectangle((e + 0.05, o + 0.06), 0.9, 0.88, fill=False, edgecolor="#ff4f3a", linewidth=2))


def _annotate(axes: Axes, weights: Weights, mesh) -> None:
    middle = (mesh.norm.vmin + mesh.norm.vmax) / 2
    digits = 2 if mesh.norm.vmax - mesh.norm.vmin >= 0.05 else 3  # a young mixture differs further behind the point
    for e, row in enumerate(weights):
        for o, value in enumerate(row):
            colour = "#101418" if value > middle else "#f6f8fa"
            axes.text(e + 0.5, o + 0.5, f"{value:.{digits}f}", ha="center", va="center", size=7.5, color=colour)


@styled
def alpha_snapshots(history: History, edges: Edges, candidates: Sequence[str], title: str = "") -> Figure:
    """The heat map at up to four epochs, from first to last, with one colour scale."""
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
    figure.suptitle(clip(title, _TITLE), size=10, weight="bold")
    return figure


@styled
def alpha_evolution(history: History, edges: Edges, candidates: Sequence[str], title: str = "") -> Figure:
    """Weight of every operation over epochs, one panel an edge: rows are target nodes, columns sources."""
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
    figure.suptitle(clip(title, _TITLE), size=10, weight="bold", y=1 - 0.08 / height, va="top")
    names = [clip(name, 20) for name in candidates]
    figure.legend(lines, names, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.26 / height), ncols=4, fontsize=8)
    return figure


def _series(
    axes: Axes, history: History, candidates: Sequence[str], value: Callable[[Weights, int], float]
) -> list[Any]:
    """One curve an operation; a single epoch is drawn as points."""
    epochs = [epoch for epoch, _ in history]
    marker = "o" if len(epochs) == 1 else None
    lines = []
    for o, (colour, dash) in enumerate(line_styles(list(candidates))):
        ys = [value(weights, o) for _, weights in history]
        lines += axes.plot(epochs, ys, color=colour, linestyle=dash, linewidth=1.3, marker=marker, markersize=3)
    whole_epochs(axes)
    return lines


def whole_epochs(axes: Axes) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


@styled
def operation_shares(groups: Mapping[str, tuple[Sequence[str], History]]) -> Figure:
    """Mean weight of each operation over the edges of a cell, one panel a cell type: group → (candidates, history)."""
    figure = new_figure(5.2, 0.6 + 2.6 * len(groups))
    panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, (name, (candidates, history)) in zip(panels, groups.items(), strict=True):
        lines = _series(axes, history, candidates, lambda w, o: sum(row[o] for row in w) / len(w))
        axes.set(title=clip(titled(name), 32), ylabel="mean weight")
        axes.set_ylim(bottom=0)
        names = [clip(c, 18) for c in candidates]
        axes.legend(lines, names, loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=8)
    panels[-1].set_xlabel("epoch")
    return figure


@styled
def learning_curves(records: Sequence[Mapping[str, Any]], title: str = "", measure: Measure = ACCURACY) -> Figure:
    """Loss and ``measure`` of training and of validation or test over epochs; missing values are bridged.

    Perplexities, which fall by orders of magnitude, are on a logarithmic axis.
    """
    figure = new_figure(5.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, what, scale in ((upper, "loss", 1.0), (lower, measure.key, measure.scale)):
        for colour, dash, part in ((SERIES[0], "-", "train"), (VERMILION, "-", "val"), (VERMILION, "--", "test")):
            curve(axes, records, lambda r, key=f"{part}_{what}": r.get(key), part, colour, dash, scale)
        if axes.lines:
            axes.legend()
        else:
            axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes, color=MUTED)
    upper.set_ylabel("loss")
    lower.set_ylabel(measure.axis)
    if not measure.higher and lower.lines:
        _logarithmic(lower)
    lower.set_xlabel("epoch")
    upper.set_title(clip(title, _TITLE))
    return figure


def _logarithmic(axes: Axes) -> None:
    """A logarithmic y axis whose ticks are plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=8))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())


def curve(
    axes: Axes,
    records: Sequence[Mapping[str, Any]],
    value: Callable[[Mapping[str, Any]], float | None],
    label: str,
    colour: str,
    dash: str = "-",
    scale: float = 1.0,
) -> None:
    """Draws ``value`` times ``scale`` of the records that have it, by epoch."""
    points = [(r["epoch"], y) for r in records if r.get("epoch") is not None and (y := value(r)) is not None]
    if not points:
        return
    xs, ys = [x for x, _ in points], [scale * y for _, y in points]
    axes.plot(xs, ys, color=colour, ls=dash, label=label, marker="o" if len(xs) < 12 else None, markersize=3.5)
    whole_epochs(axes)


@styled
def entropy(records: Sequence[Mapping[str, Any]], candidates: int | None = None) -> Figure:
    """Entropy of the operation weights in nats, a curve for each cell type; the dashed line is the uniform mixture."""
    return _per_group(records, "entropy", "entropy (nats)", "Entropy of the mixture", candidates)


@styled
def skip_share(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of skip connections among the edges that would be kept now, a curve for each cell type."""
    return _per_group(records, "skip_share", "share of the cell's edges", "Skip connections", None)


@styled
def truth(records: Sequence[Mapping[str, Any]], best: float | None = None, title: str = "") -> Figure:
    """What the cells that would be chosen at each epoch really reach (shares of 1), below what the ``best`` cell does."""
    figure = new_figure(5.2, 2.9)
    axes = figure.add_subplot()
    curve(axes, records, lambda r: r.get("true_acc"), "cell chosen at that epoch", VERMILION, scale=100.0)
    if best is not None:
        axes.axhline(100 * best, color=MUTED, ls=(0, (5, 3)), lw=1.1, label=f"best cell of the space: {100 * best:.2f}")
    axes.set(title=clip(title or "True test accuracy", _TITLE), xlabel="epoch", ylabel="true test accuracy (%)")
    axes.margins(y=0.12)
    figure.legend(loc="outside lower center", ncols=2)  # the curve may go anywhere
    return figure


def _per_group(records: Sequence[Mapping[str, Any]], key: str, unit: str, title: str, candidates: int | None) -> Figure:
    figure = new_figure(5.2, 2.9)
    axes = figure.add_subplot()
    names = list(dict.fromkeys(name for r in records for name in r.get(key) or {}))
    for i, name in enumerate(names):
        dash = ("-", "--", ":", "-.")[i % 4]
        colour = SERIES[i % len(SERIES)]
        curve(axes, records, lambda r, name=name: (r.get(key) or {}).get(name), name, colour, dash)
    if candidates and candidates > 1:
        axes.axhline(math.log(candidates), color=MUTED, ls=(0, (5, 3)), lw=1.1, label=f"uniform over {candidates}")
    if key == "skip_share":
        axes.set_ylim(-0.03, 1.03)
    axes.set(title=title, xlabel="epoch", ylabel=unit)
    axes.legend()
    return figure


@styled
def toy_trajectories(toy: Mapping[str, Any]) -> Figure:
    """The seed's Figure 2: descent in the (α, w) plane over contours of L_val = αw − 2α + 1, a path for each ξ."""
    runs = [(r, [(float(a), float(w)) for a, w in r["trajectory"]]) for r in toy["runs"] if r.get("trajectory")]
    points = [tuple(toy["optimum"]), tuple(toy["start"])] + [p for _, path in runs for p in path]
    (a0, a1), (w0, w1) = (_span([p[k] for p in points]) for k in (0, 1))
    figure = new_figure(5.2, 5.2)
    axes = figure.add_subplot()
    axes.grid(False)
    grid_a, grid_w = ([low + (high - low) * i / 80 for i in range(81)] for low, high in ((a0, a1), (w0, w1)))
    values = [[a * w - 2 * a + 1 for a in grid_a] for w in grid_w]
    lines = axes.contour(grid_a, grid_w, values, levels=14, colors=MUTED, linestyles="-", linewidths=0.6)
    low, high = max(a0, w0), min(a1, w1)
    axes.plot([low, high], [low, high], color=MUTED, lw=1.3, ls=(0, (6, 3)), label="feasible: w = α")
    for i, (run, path) in enumerate(runs):
        step = max(1, len(path) // 200)
        shown = path[::step] + ([path[-1]] if (len(path) - 1) % step else [])
        label = f"ξ = {run.get('xi'):g}: {run.get('iterations', len(path) - 1)} iterations"
        colour, dash = SERIES[i % len(SERIES)], ("-", "--", "-.", ":")[i % 4]
        axes.plot(*zip(*shown, strict=True), color=colour, ls=dash, lw=2, label=label)
        axes.plot(*path[-1], color=colour, marker="o", ms=5)
    axes.plot(*toy["start"], color=INK, marker="s", ms=7, ls="", label="start")
    axes.plot(*toy["optimum"], color=INK, marker="*", ms=13, ls="", label="optimum (1, 1)", zorder=5)
    axes.set(xlabel="α (upper level)", ylabel="w (lower level)", xlim=(a0, a1), ylim=(w0, w1))
    diagonal = [(low + (high - low) * i / 80,) * 2 for i in range(81)]
    spots = _free_spots(lines, points[:2] + [p for _, path in runs for p in path[::4]] + diagonal, (a0, a1), (w0, w1))
    axes.clabel(lines, fontsize=7, fmt="%g", manual=spots)
    axes.set_title("Bilevel toy problem over contours of L_val")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, handlelength=2.8)
    return figure


def _free_spots(
    contours: Any, taken: Sequence[tuple[float, ...]], xs: tuple[float, float], ys: tuple[float, float]
) -> list[tuple[float, float]]:
    """On each contour the point farthest from all that is ``taken``, the labels before it and the frame; none if near."""
    import numpy

    corner, size = numpy.array([xs[0], ys[0]]), numpy.array([xs[1] - xs[0], ys[1] - ys[0]])
    busy, spots = (numpy.array(taken) - corner) / size, []  # in parts of the frame
    for segments in contours.allsegs:
        if not sum(len(s) for s in segments):
            continue
        line = (numpy.concatenate(segments) - corner) / size
        free = numpy.linalg.norm(line[:, None] - busy[None], axis=2).min(axis=1)
        room = numpy.minimum(free, numpy.minimum(line, 1 - line).min(axis=1))
        if room.max() > 0.045:  # half the width of a label
            best = line[room.argmax()]
            busy = numpy.vstack([busy, best])
            spots.append(tuple(float(x) for x in best * size + corner))
    return spots


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.1 * (high - low) or 1.0
    return low - pad, high + pad


@styled
def comparison(found: float, random: Sequence[float], name: str = "found cell", measure: Measure = ACCURACY) -> Figure:
    """Test results by ``measure``: the found cell beside random cells of the same space, with their mean ± sd."""
    figure = new_figure(5.2, 1.9)
    axes = figure.add_subplot()
    xs = [measure.scale * value for value in random]
    mean = statistics.fmean(xs)
    if len(xs) > 1:
        spread = statistics.stdev(xs)
        axes.axvspan(mean - spread, mean + spread, color=SERIES[0], alpha=0.15, lw=0)
    axes.axvline(mean, color=SERIES[0], lw=1.4, ls=(0, (5, 3)))
    axes.plot(xs, [0] * len(xs), "o", color=SERIES[0], ms=8, alpha=0.8)
    axes.plot([measure.scale * found], [1], "D", color=VERMILION, ms=9)
    axes.set_yticks([0, 1], [f"random cells (n={len(xs)})", clip(name, 24)])
    axes.set_ylim(-0.6, 1.6)
    axes.margins(x=0.12)
    axes.set_xlabel(f"test {measure.axis}" + ("; band: mean ± sd of random cells" if len(xs) > 1 else ""))
    axes.grid(axis="y", visible=False)
    return figure
