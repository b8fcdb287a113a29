"""The figures of a study: intervals, critical differences, incumbents over time, supernet beside table.

Every function returns a `matplotlib.figure.Figure`, see `oche.report.plots.training`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oche.analysis import CannotSay, Ranking, Summary
from oche.report.drawings.scene import clip
from oche.report.metric_names import Measure
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
    measure: Measure,
    controls: Sequence[str] = (),
) -> Figure:
    """A row a group, the first on top: every seed as a point, the mean as a bar, its 95 % interval as a line."""
    names = [*results][::-1]
    figure = new_figure(5.6, 1.25 + 0.34 * len(names))
    axes = figure.add_subplot()
    for y, name in enumerate(names):
        colour = VERMILION if name in controls else BLUE
        values = [measure.scale * value for value in results[name]]
        axes.plot(values, [y] * len(values), "o", color=colour, ms=5, alpha=0.65, mew=0)
        axes.plot([measure.scale * summaries[name].mean], [y], "|", color=colour, ms=15, mew=2.2)
        if not isinstance(around := summaries[name].interval, CannotSay):
            axes.plot([measure.scale * end for end in around], [y, y], color=colour, lw=2)
    axes.set_yticks(range(len(names)), [f"{clip(name, _NAME)} (n={len(results[name])})" for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.margins(x=0.06)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{what}{f' ({measure.unit.strip()})' if measure.unit else ''}")
    return figure


@styled
def critical_difference(ranking: Ranking, title: str = "") -> Figure:
    """Mean ranks on a line, best on the left, names on both sides; bars join groups that do not differ (Demšar 2006, fig. 1)."""
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
        words = f"{clip(name, 22)}  {rank:.2f}"
        axes.text(end, y, f" {words} ", ha="left" if right else "right", va="center", size=8)
    for level, clique in enumerate(joined):
        ends = [ranking.ranks[name] for name in (clique[0], clique[-1])]
        pad = 0.012 * (k - 1)
        axes.plot([ends[0] - pad, ends[1] + pad], [-0.17 - 0.2 * level] * 2, color=INK, lw=3.4, solid_capstyle="butt")
    figure.suptitle(clip(title, 80), size=10, weight="bold", y=1 - 0.06 / height, va="top")
    return figure


def _scale(axes: Axes, k: int, difference: float) -> None:
    """The line of ranks, and above it how long the critical difference is."""
    axes.plot([1, k], [0, 0], color=INK, lw=1.2, clip_on=False)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, 0.08], color=INK, lw=1.2, clip_on=False)
        axes.text(rank, 0.12, str(rank), ha="center", va="bottom", size=8)
    axes.plot([1, 1 + difference], [0.48, 0.48], color=INK, lw=1.2, marker="|", ms=6, clip_on=False)
    axes.text(1 + difference / 2, 0.52, f"critical difference {difference:.2f}", ha="center", va="bottom", size=8)


@dataclass(frozen=True)
class Panel:
    """One of several below each other: group → a curve a seed; ``targets``: values to be marked, unscaled."""

    measure: Measure
    groups: Mapping[str, Sequence[Curve]]
    targets: Sequence[float] = ()


@styled
def incumbents(panels: Mapping[str, Panel], time: str) -> Figure:
    """Values against time, by the panel's title. Thick: the mean from where all seeds have begun."""
    figure = new_figure(5.6, 0.75 + 2.3 * len(panels))
    shown = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel.groups))
    lines: dict[str, Any] = {}
    for axes, (title, panel) in zip(shown, panels.items(), strict=True):
        measure = panel.measure
        for name, curves in panel.groups.items():
            i = names.index(name)
            style = {"color": SERIES[i % len(SERIES)], "ls": ("-", "--", ":", "-.")[i // len(SERIES) % 4]}
            for curve in curves:
                axes.step(*_scaled(curve, measure), where="post", lw=1.0, alpha=0.55, **style)
            mean = axes.step(*_scaled(mean_curve(curves), measure), where="post", lw=2, **style)
            lines.setdefault(name, mean[0])
        for target in panel.targets:
            lines["target"] = axes.axhline(measure.scale * target, color=MUTED, lw=1.3, ls=(0, (5, 3)))
        axes.set_title(clip(title, 64))
        axes.set_ylabel(measure.axis)
    shown[-1].set_xlabel(time)
    figure.legend(
        [*lines.values()], [clip(name, _NAME) for name in lines], loc="outside lower center", ncols=3, fontsize=8
    )
    return figure


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean over ``curves`` wherever one changes, from the time when the last has begun to that when the first ends."""
    if not all(curves):
        return ()
    begin, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    times = sorted({begin, *(time for curve in curves for time, _ in curve if begin <= time <= end)})
    return [(time, sum(_at(curve, time) for curve in curves) / len(curves)) for time in times]


def _at(curve: Curve, time: float) -> float:
    return [value for t, value in curve if t <= time][-1]


def _scaled(curve: Curve, measure: Measure) -> tuple[list[float], list[float]]:
    return [time for time, _ in curve], [measure.scale * value for _, value in curve]


@styled
def agreement(points: Mapping[str, Sequence[tuple[float, float]]], title: str = "") -> Figure:
    """Cells by (rank in the supernet, rank by the table), 1 is best: a panel a group."""
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
