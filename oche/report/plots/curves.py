"""Curves over the epochs of a search or a training, and the found cell beside random cells.

Every function returns a `matplotlib.figure.Figure`, drawn without pyplot: no global state, no display.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oche.report.drawings.scene import clip
from oche.report.metric_names import ACCURACY, Measure
from oche.report.plots.style import MUTED, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = 48  # characters that fit over the narrowest figure


def whole_epochs(axes: Axes) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


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
