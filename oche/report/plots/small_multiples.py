"""Small multiples: the learning curves of many runs, one panel for each group of runs, all with the same axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oche.report.drawings.scene import clip
from oche.report.metrics import Metric
from oche.report.plots.curves import whole_epochs
from oche.report.plots.style import MUTED, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]  # (epoch, value)
_HELD_OUT = ("val", "test")


def curve_points(records: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0) -> Curve:
    """Return (epoch, value times ``scale``) of the records that have a finite number ``key``."""
    return [(r["epoch"], scale * v) for r in records if (v := r.get(key)) is not None and math.isfinite(v)]


def held_out_curve(records: Sequence[Mapping[str, Any]], metric: Metric) -> Curve:
    """Return the validation curve of ``metric``, or the test curve where there is no validation."""
    curves = (curve_points(records, f"{part}_{metric.key}", metric.scale) for part in _HELD_OUT)
    return next((points for points in curves if points), [])


def axis_limits(curves: Sequence[Curve]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return ((first epoch, last epoch), (lower limit, upper limit)) that hold all ``curves``, with a margin of 5 %."""
    xs, ys = zip(*(point for points in curves for point in points), strict=True)
    margin = 0.05 * (max(ys) - min(ys)) or 0.5
    return (min(xs), max(max(xs), min(xs) + 1)), (min(ys) - margin, max(ys) + margin)


def thin(points: Curve, most: int) -> Curve:
    """Return at most ``most`` evenly spread points of a curve, among them the first and the last."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


@styled
def group_panel(
    title: str,
    own: Sequence[Curve],
    own_training: Sequence[Curve],
    others: Sequence[Curve],
    frame: tuple[tuple[float, float], tuple[float, float]],
    metric: Metric,
) -> Figure:
    """Draw one group: its runs on held-out data (red) and on training data (blue, dashed), behind them all other runs (grey).

    ``frame``: limits of the axes, see `axis_limits`.
    """
    figure = new_figure(3.1, 2.3)
    axes = figure.add_subplot()
    styles = (
        (others, MUTED, "-", 0.6, 0.35),
        (own_training, SERIES[0], "--", 1.1, 0.9),
        (own, VERMILION, "-", 1.6, 1.0),
    )
    for curves, colour, dash, width, alpha in styles:
        for points in curves:
            dot = "o" if len(points) == 1 else None
            axes.plot(*zip(*points, strict=True), color=colour, ls=dash, lw=width, alpha=alpha, marker=dot, ms=3)
    axes.set(xlim=frame[0], ylim=frame[1])
    axes.set_xlabel("epoch", size=8)
    axes.set_ylabel(metric.axis, size=8)
    if not metric.higher:
        axes.set_yscale("log")
        axes.set_ylim(max(frame[1][0], 1.0), frame[1][1])
    axes.set_title(clip(title, 34), size=9)
    axes.tick_params(labelsize=7.5)
    whole_epochs(axes)
    return figure
