"""Figure of the bilevel toy problem: gradient descent in the (α, w) plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oche.report.plots.style import INK, MUTED, SERIES, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def toy_trajectories(toy: Mapping[str, Any]) -> Figure:
    """Draw the seed's Figure 2: gradient descent in the (α, w) plane over contours of L_val = αw − 2α + 1, a path for each ξ.

    ``toy`` is the content of toy.json: optimum, start, and runs with xi, iterations and trajectory, a list of (α, w).
    """
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
    """Return a place for the label of each contour: the point farthest from ``taken`` points, earlier labels and the frame.

    A contour without a point that is far enough away gets no label.
    """
    import numpy

    corner, size = numpy.array([xs[0], ys[0]]), numpy.array([xs[1] - xs[0], ys[1] - ys[0]])
    busy, spots = (numpy.array(taken) - corner) / size, []  # in units of the frame's width and height
    for segments in contours.allsegs:
        if not sum(len(s) for s in segments):
            continue
        line = (numpy.concatenate(segments) - corner) / size
        free = numpy.linalg.norm(line[:, None] - busy[None], axis=2).min(axis=1)
        distance = numpy.minimum(free, numpy.minimum(line, 1 - line).min(axis=1))
        if distance.max() > 0.045:  # half the width of a label
            best = line[distance.argmax()]
            busy = numpy.vstack([busy, best])
            spots.append(tuple(float(x) for x in best * size + corner))
    return spots


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of ``values``, widened by a tenth on both sides."""
    low, high = min(values), max(values)
    pad = 0.1 * (high - low) or 1.0
    return low - pad, high + pad
