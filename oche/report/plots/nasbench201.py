"""Figures of a comparison on NAS-Bench-201: the true test accuracy of every run's cell by method, and over the cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from oche.report.drawings.scene import clip
from oche.report.plots.study import Curve, mean_curve
from oche.report.plots.style import BLUE, INK, MUTED, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TICKS = (10, 30, 50, 70, 80, 85, 90, 92, 93, 94, 95, 96, 97, 98, 99)
_NEAR = 0.3  # points: the axis is logarithmic in the distance to the best cell plus this


@styled
def accuracy_by_method(
    reached: Mapping[str, Sequence[float]],
    best: float,
    random: float,
    published: Mapping[str, float],
    title: str = "",
) -> Figure:
    """Draw one row for each method, the best mean on top: runs as points, their mean as a bar, the published mean as a diamond.

    ``reached``: accuracies in percent by method, one for each run; ``best``: that of the best cell of the space; ``random``: the
    mean of all cells; ``published``: mean by method. The axis is logarithmic in the distance to the best cell, because the
    differences that matter are small and close to it.
    """
    order = sorted(reached, key=lambda method: statistics.fmean(reached[method]))
    figure = new_figure(7.4, 1.5 + 0.27 * len(order))
    axes = figure.add_subplot()
    for y, method in enumerate(order):
        _row(axes, y, reached[method], published.get(method))
    axes.axvline(best, color=INK, lw=1, ls=(0, (1, 2)))
    axes.axvline(random, color=MUTED, lw=1, ls=(0, (5, 3)))
    top = len(order) - 0.35
    axes.text(best, top, f"best cell: {best:.2f} ", ha="right", va="bottom", size=7.5)
    axes.text(random, top, f"random cell: {random:.2f}", ha="center", va="bottom", size=7.5, color=MUTED)
    axes.set_yticks(range(len(order)), [clip(method, 24) for method in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    _stretch(axes, [*(x for method in order for x in reached[method]), *published.values(), random], best)
    axes.set_xlabel("true test accuracy (%), logarithmic in the distance to the best cell")
    axes.set_title(clip(title, 64), pad=16)
    _legend(figure, bool(published))
    return figure


@styled
def accuracy_over_cost(
    measured: Mapping[str, Sequence[Curve]], estimated: Mapping[str, Curve], best: float, title: str = ""
) -> Figure:
    """Draw the true accuracy of incumbents over the seconds of a search, both axes logarithmic.

    ``measured``: by method, a curve of (seconds, share of 1) for each search, drawn solid with their mean. ``estimated``: by
    strategy the mean curve of all runs, dashed. ``best``: accuracy of the best cell of the space, in percent.
    """
    figure = new_figure(7.4, 4.6)
    axes = figure.add_subplot()
    shown: list[float] = []
    names = [*measured, *estimated]
    for name in names:
        colour = SERIES[names.index(name) % len(SERIES)]
        for curve in measured.get(name, ()):
            axes.step(*_points(curve), where="post", color=colour, lw=0.8, alpha=0.5)
        curve = mean_curve(measured[name]) if name in measured else estimated[name]
        x, y = _points(curve)
        shown += y[len(y) // 4 :]  # the first quarter of a search may be far below
        kind = "measured" if name in measured else "estimated"
        label = f"{clip(name, 26)}, {kind}"
        axes.step(x, y, where="post", color=colour, lw=1.8, ls="-" if name in measured else (0, (4, 1.5)), label=label)
    axes.axhline(best, color=INK, lw=1, ls=(0, (1, 2)))
    _stretch(axes, shown, best, "y")
    axes.set_xscale("log")
    axes.set_xlabel("seconds of a search")
    axes.set_ylabel("true test accuracy (%)")
    axes.set_title(clip(title, 64))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _points(curve: Curve) -> tuple[list[float], list[float]]:
    return [max(1e-3, seconds) for seconds, _ in curve], [100 * value for _, value in curve]


def _row(axes: Axes, y: int, values: Sequence[float], published: float | None) -> None:
    axes.plot(values, [y] * len(values), "o", color=BLUE, ms=6, alpha=0.65, mew=0)
    axes.plot([statistics.fmean(values)], [y], "|", color=BLUE, ms=15, mew=2)
    if published is not None:
        axes.plot([published], [y], "D", color=VERMILION, ms=6, mfc="none", mew=1.3)


def _stretch(axes: Axes, shown: Sequence[float], best: float, which: Literal["x", "y"] = "x") -> None:
    """Set an axis: from the smallest of ``shown`` to a little over ``best``, logarithmic in the distance to ``best``."""
    import numpy as np

    end = best + _NEAR

    def forward(x):
        return -np.log(np.maximum(end - np.asarray(x, dtype=float), 1e-6))

    set_ = {name: getattr(axes, f"set_{which}{name}") for name in ("scale", "lim", "ticks")}
    set_["scale"]("function", functions=(forward, lambda u: end - np.exp(-np.asarray(u, dtype=float))))
    low = min(shown)
    set_["lim"](low - 0.12 * (end - low), best + 0.15 * _NEAR)
    ticks = [x for x in _TICKS if low - 0.12 * (end - low) <= x <= best - _NEAR / 3]
    set_["ticks"](ticks, [str(x) for x in ticks])
    axes.minorticks_off()


def _legend(figure: Figure, published: bool) -> None:
    from matplotlib.lines import Line2D

    def key(label: str, **style: Any) -> Line2D:
        return Line2D([], [], color=BLUE, ls="", label=label, **style)

    keys = [
        key("one run", marker="o", alpha=0.65),
        key("mean", marker="|", mew=2, ms=11),
        key("published, full size", marker="D", mfc="none", mec=VERMILION),
    ]
    figure.legend(handles=keys if published else keys[:2], loc="outside lower center", ncols=3, fontsize=8)
