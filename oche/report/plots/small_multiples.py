"""Small multiples: the learning curves of many runs, a panel a group, all on the same axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oche.report.drawings.scene import clip
from oche.report.metric_names import Measure
from oche.report.plots.curves import whole_epochs
from oche.report.plots.style import MUTED, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]  # (epoch, value)
_HELD = ("val", "test")


def curve(records: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0) -> Curve:
    """(epoch, value times ``scale``) of the records that have ``key``."""
    return [(r["epoch"], scale * v) for r in records if (v := r.get(key)) is not None and math.isfinite(v)]


def held(records: Sequence[Mapping[str, Any]], measure: Measure) -> Curve:
    """The validation curve, or where there is none that of the test."""
    curves = (curve(records, f"{part}_{measure.key}", measure.scale) for part in _HELD)
    return next((points for points in curves if points), [])


def limits(curves: Sequence[Curve]) -> tuple[tuple[float, float], tuple[float, float]]:
    """((first, last epoch), (least, greatest value)) of all ``curves``, with a little room."""
    xs, ys = zip(*(point for points in curves for point in points), strict=True)
    room = 0.05 * (max(ys) - min(ys)) or 0.5
    return (min(xs), max(max(xs), min(xs) + 1)), (min(ys) - room, max(ys) + room)


def thin(points: Curve, most: int) -> Curve:
    """At most ``most`` of the points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


@styled
def panel(
    title: str,
    own: Sequence[Curve],
    own_training: Sequence[Curve],
    others: Sequence[Curve],
    frame: tuple[tuple[float, float], tuple[float, float]],
    measure: Measure,
) -> Figure:
    """One group: each of its runs on held-out data (red) and on training data (blue, dashed), behind them all others (grey)."""
    figure = new_figure(3.1, 2.3)
    axes = figure.add_subplot()
    kinds = (
        (others, MUTED, "-", 0.6, 0.35),
        (own_training, SERIES[0], "--", 1.1, 0.9),
        (own, VERMILION, "-", 1.6, 1.0),
    )
    for curves, colour, dash, width, alpha in kinds:
        for points in curves:
            dot = "o" if len(points) == 1 else None
            axes.plot(*zip(*points, strict=True), color=colour, ls=dash, lw=width, alpha=alpha, marker=dot, ms=3)
    axes.set(xlim=frame[0], ylim=frame[1])
    axes.set_xlabel("epoch", size=8)
    axes.set_ylabel(measure.axis, size=8)
    if not measure.higher:
        axes.set_yscale("log")
        axes.set_ylim(max(frame[1][0], 1.0), frame[1][1])
    axes.set_title(clip(title, 34), size=9)
    axes.tick_params(labelsize=7.5)
    whole_epochs(axes)
    return figure
