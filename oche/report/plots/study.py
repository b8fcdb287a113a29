"""Figures of a study: intervals, critical differences, incumbents over time, ranks by supernet and table.

Every function returns a `matplotlib.figure.Figure`, see `oche.report.plots.curves`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oche.analysis import Ranking, Summary, Undetermined
from oche.report.drawings.scene import clip
from oche.report.metrics import Metric
from oche.report.plots.style import BLUE, INK, MUTED, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAME = 30  # characters of a group's name
Curve = Sequence[tuple[float, float]]  # (time, best so far), by rising time


@styled
def intervals(
    results: Mapping[str, Sequence[float]],
    summaries: Mapping[str, Summary],
    what: str,
    metric: Metric,
    controls: Sequence[str] = (),
) -> Figure:
    """Draw one row for each group, the first on top: seeds as points, the mean as a bar, its 95 % interval as a line.

    ``results``: values by group, one for each seed; ``what``: label of the axis; ``controls``: groups of random cells.
    """
    names = [*results][::-1]
    figure = new_figure(5.6, 1.25 + 0.34 * len(names))
    axes = figure.add_subplot()
    for y, name in enumerate(names):
        colour = VERMILION if name in controls else BLUE
        values = [metric.scale * value for value in results[name]]
        axes.plot(values, [y] * len(values), "o", color=colour, ms=5, alpha=0.65, mew=0)
        axes.plot([metric.scale * summaries[name].mean], [y], "|", color=colour, ms=15, mew=2.2)
        if not isinstance(around := summaries[name].interval, Undetermined):
            axes.plot([metric.scale * end for end in around], [y, y], color=colour, lw=2)
    axes.set_yticks(range(len(names)), [f"{clip(name, _NAME)} (n={len(results[name])})" for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.margins(x=0.06)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{what}{f' ({metric.unit.strip()})' if metric.unit else ''}")
    return figure


@styled
def critical_difference(ranking: Ranking, title: str = "") -> Figure:
    """Draw mean ranks on a line, the best left; bars join groups that do not differ significantly (Demšar 2006, fig. 1)."""
    names, k = [*ranking.ranks], len(ranking.ranks)
    left, joined = (k + 1) // 2, ranking.alike
    step, drop = 0.36, 0.2 * len(joined) + 0.25
    low = -drop - step * left - 0.15
    height = 1.0 - low  # inches, as units of y
    figure = new_figure(7.6, height, layout=None)
    axes = figure.add_axes((0.32, 0, 0.36, 1))
    axes.set(xlim=(1, k), ylim=(low, 1.0))
    axes.axis("off")
    _scale(axes, k, ranking.difference)
    for i, name in enumerate(names):
        right = i >= left
        y = -drop - step * ((k - 1 - i) if right else i) - 0.1
        rank, end = ranking.ranks[name], k + 0.04 * (k - 1) if right else 1 - 0.04 * (k - 1)
        axes.plot([rank, rank, end], [0, y, y], color=MUTED, lw=0.9, clip_on=False)
        label = f"{clip(name, 22)}  {rank:.2f}"
        axes.text(end, y, f" {label} ", ha="left" if right else "right", va="center", size=8)
    for level, clique in enumerate(joined):
        ends = [ranking.ranks[name] for name in (clique[0], clique[-1])]
        pad = 0.012 * (k - 1)
        axes.plot([ends[0] - pad, ends[1] + pad], [-0.17 - 0.2 * level] * 2, color=INK, lw=3.4, solid_capstyle="butt")
    figure.suptitle(clip(title, 80), size=10, weight="bold", y=1 - 0.06 / height, va="top")
    return figure


def _scale(axes: Axes, k: int, difference: float) -> None:
    """Draw the axis of ranks, and above it the length of the critical difference."""
    axes.plot([1, k], [0, 0], color=INK, lw=1.2, clip_on=False)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, 0.08], color=INK, lw=1.2, clip_on=False)
        axes.text(rank, 0.12, str(rank), ha="center", va="bottom", size=8)
    axes.plot([1, 1 + difference], [0.48, 0.48], color=INK, lw=1.2, marker="|", ms=6, clip_on=False)
    axes.text(1 + difference / 2, 0.52, f"critical difference {difference:.2f}", ha="center", va="bottom", size=8)


@dataclass(frozen=True)
class Panel:
    """One panel of `incumbents`: the curves of each group, one for each seed; ``targets``: unscaled values to mark."""

    metric: Metric
    groups: Mapping[str, Sequence[Curve]]
    targets: Sequence[float] = ()


@styled
def incumbents(panels: Mapping[str, Panel], time: str) -> Figure:
    """Draw values over time; ``panels`` by title. Thin lines are seeds, thick ones their mean (`mean_curve`)."""
    figure = new_figure(5.6, 0.75 + 2.3 * len(panels))
    shown = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel.groups))
    lines: dict[str, Any] = {}
    for axes, (title, panel) in zip(shown, panels.items(), strict=True):
        metric = panel.metric
        for name, curves in panel.groups.items():
            i = names.index(name)
            style = {"color": SERIES[i % len(SERIES)], "ls": ("-", "--", ":", "-.")[i // len(SERIES) % 4]}
            for curve in curves:
                axes.step(*_scaled(curve, metric), where="post", lw=1.0, alpha=0.55, **style)
            mean = axes.step(*_scaled(mean_curve(curves), metric), where="post", lw=2, **style)
            lines.setdefault(name, mean[0])
        for target in panel.targets:
            lines["target"] = axes.axhline(metric.scale * target, color=MUTED, lw=1.3, ls=(0, (5, 3)))
        axes.set_title(clip(title, 64))
        axes.set_ylabel(metric.axis)
    shown[-1].set_xlabel(time)
    figure.legend(
        [*lines.values()], [clip(name, _NAME) for name in lines], loc="outside lower center", ncols=3, fontsize=8
    )
    return figure


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of step functions ``curves``, from the time when the last one begins until the first one ends."""
    if not all(curves):
        return ()
    begin, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    times = sorted({begin, *(time for curve in curves for time, _ in curve if begin <= time <= end)})
    return [(time, sum(_at(curve, time) for curve in curves) / len(curves)) for time in times]


def _at(curve: Curve, time: float) -> float:
    return [value for t, value in curve if t <= time][-1]


def _scaled(curve: Curve, metric: Metric) -> tuple[list[float], list[float]]:
    return [time for time, _ in curve], [metric.scale * value for _, value in curve]


@styled
def rank_agreement(points: Mapping[str, Sequence[tuple[float, float]]], title: str = "") -> Figure:
    """Draw cells at (rank in the supernet, rank by the table), 1 is best; one panel for each group."""
    columns = min(3, len(points))
    lines = -(-len(points) // columns)
    figure = new_figure(0.6 + 2.4 * columns, 0.7 + 2.3 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes, (name, of) in zip(panels.flat, points.items(), strict=False):
        axes.axline((1, 1), slope=1, color=MUTED, lw=0.8, ls=(0, (5, 3)))
        axes.plot([x for x, _ in of], [y for _, y in of], "o", color=BLUE, ms=3, alpha=0.5, mew=0)
        axes.set_title(clip(name, 26), size=9)
    for axes in [*panels.flat][len(points) :]:
        axes.set_visible(False)
    figure.supxlabel("rank in the supernet", size=9)
    figure.supylabel("rank by the table", size=9)
    figure.suptitle(clip(title, 64), size=10, weight="bold")
    return figure
