"""Curves over the epochs of a search or a training, and the test results of the found cell beside random cells.

Every function returns a `matplotlib.figure.Figure` without using pyplot, so no global state and no display is needed.
Records are those of `oche.report.read_run.RunData`: one mapping for each epoch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oche.report.drawings.scene import clip
from oche.report.metrics import ACCURACY, CostTarget, Metric
from oche.report.plots.style import MUTED, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]
TITLE = 48  # characters that fit over the narrowest figure


@styled
def learning_curves(records: Records, title: str = "", metric: Metric = ACCURACY) -> Figure:
    """Draw loss and ``metric`` of training, validation and test over epochs; missing values are bridged.

    Perplexities fall by orders of magnitude, so they have a logarithmic axis.
    """
    figure = new_figure(5.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, what, scale in ((upper, "loss", 1.0), (lower, metric.key, metric.scale)):
        for colour, dash, part in ((SERIES[0], "-", "train"), (VERMILION, "-", "val"), (VERMILION, "--", "test")):
            draw_curve(axes, records, lambda r, key=f"{part}_{what}": r.get(key), part, colour, dash, scale)
        if axes.lines:
            axes.legend()
        else:
            axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes, color=MUTED)
    upper.set_ylabel("loss")
    lower.set_ylabel(metric.axis)
    if not metric.higher and lower.lines:
        _logarithmic(lower)
    lower.set_xlabel("epoch")
    upper.set_title(clip(title, TITLE))
    return figure


def _logarithmic(axes: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers as ticks."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=8))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())


def draw_curve(
    axes: Axes,
    records: Records,
    value: Callable[[Mapping[str, Any]], float | None],
    label: str,
    colour: str,
    dash: str = "-",
    scale: float = 1.0,
) -> None:
    """Draw ``value(record)`` times ``scale`` over epochs, for the records where it is not None."""
    points = [(r["epoch"], y) for r in records if r.get("epoch") is not None and (y := value(r)) is not None]
    if not points:
        return
    xs, ys = [x for x, _ in points], [scale * y for _, y in points]
    axes.plot(xs, ys, color=colour, ls=dash, label=label, marker="o" if len(xs) < 12 else None, markersize=3.5)
    whole_epochs(axes)


def whole_epochs(axes: Axes) -> None:
    """Restrict the ticks of the x axis to whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


# --- searches -----------------------------------------------------------------------------------------------------------


@styled
def entropy(records: Records, candidates: int | None = None) -> Figure:
    """Draw the entropy (nats) of the operation weights of each cell type; dashed: that of a uniform mixture of ``candidates``."""
    return _by_cell_type(records, "entropy", "entropy (nats)", "Entropy of the mixture", candidates)


@styled
def skip_share(records: Records) -> Figure:
    """Draw the share of skip connections among the edges that would be kept at each epoch, one curve for each cell type."""
    return _by_cell_type(records, "skip_share", "share of the cell's edges", "Skip connections", None)


def _by_cell_type(records: Records, key: str, unit: str, title: str, candidates: int | None) -> Figure:
    figure = new_figure(5.2, 2.9)
    axes = figure.add_subplot()
    names = list(dict.fromkeys(name for r in records for name in r.get(key) or {}))
    for i, name in enumerate(names):
        dash = ("-", "--", ":", "-.")[i % 4]
        colour = SERIES[i % len(SERIES)]
        draw_curve(axes, records, lambda r, name=name: (r.get(key) or {}).get(name), name, colour, dash)
    if candidates and candidates > 1:
        axes.axhline(math.log(candidates), color=MUTED, ls=(0, (5, 3)), lw=1.1, label=f"uniform over {candidates}")
    if key == "skip_share":
        axes.set_ylim(-0.03, 1.03)
    axes.set(title=title, xlabel="epoch", ylabel=unit)
    axes.legend()
    return figure


@styled
def true_accuracy(records: Records, best: float | None = None, title: str = "") -> Figure:
    """Draw the true test accuracy of the cell chosen at each epoch, and of the ``best`` cell of the space (shares of 1)."""
    figure = new_figure(5.2, 2.9)
    axes = figure.add_subplot()
    draw_curve(axes, records, lambda r: r.get("true_acc"), "cell chosen at that epoch", VERMILION, scale=100.0)
    if best is not None:
        axes.axhline(100 * best, color=MUTED, ls=(0, (5, 3)), lw=1.1, label=f"best cell of the space: {100 * best:.2f}")
    axes.set(title=clip(title or "True test accuracy", TITLE), xlabel="epoch", ylabel="true test accuracy (%)")
    axes.margins(y=0.12)
    figure.legend(loc="outside lower center", ncols=2)  # inside the axes the curve may be anywhere
    return figure


@styled
def cost_curves(records: Records, cost: CostTarget, metric: Metric = ACCURACY) -> Figure:
    """Draw the expected cost of the mixture, the cost of the chosen cell's network, its target, and validation ``metric``."""
    figure = new_figure(5.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    values = [v for r in records for key in ("cost", "cost_found") if (v := r.get(key)) is not None]
    axis = cost.metric(max([*values, cost.target or 0.0]))
    for key, label, colour, dash in (
        ("cost", "expected cost of the mixture", SERIES[0], "--"),
        ("cost_found", "cell chosen at that epoch", VERMILION, "-"),
    ):
        draw_curve(upper, records, lambda r, key=key: r.get(key), label, colour, dash, axis.scale)
    if cost.target is not None:
        label = f"target {cost.text(cost.target)}"
        upper.axhline(axis.scale * cost.target, color=MUTED, ls=(0, (5, 3)), lw=1.3, label=label)
    upper.set(title=f"{cost.name[0].upper()}{cost.name[1:]} of the final network", ylabel=axis.axis)
    upper.margins(y=0.1)
    upper.legend(fontsize=8)
    key, label = f"val_{metric.key}", "validation in the search"
    draw_curve(lower, records, lambda r: r.get(key), label, SERIES[0], scale=metric.scale)
    lower.set(xlabel="epoch", ylabel=metric.axis)
    return figure


# --- test results -------------------------------------------------------------------------------------------------------


@styled
def found_and_random(
    found: float, random: Sequence[float], name: str = "found cell", metric: Metric = ACCURACY
) -> Figure:
    """Draw the test result of the found cell, and those of random cells of the same space with their mean ± sd."""
    figure = new_figure(5.2, 1.9)
    axes = figure.add_subplot()
    xs = [metric.scale * value for value in random]
    mean = statistics.fmean(xs)
    if len(xs) > 1:
        sd = statistics.stdev(xs)
        axes.axvspan(mean - sd, mean + sd, color=SERIES[0], alpha=0.15, lw=0)
    axes.axvline(mean, color=SERIES[0], lw=1.4, ls=(0, (5, 3)))
    axes.plot(xs, [0] * len(xs), "o", color=SERIES[0], ms=8, alpha=0.8)
    axes.plot([metric.scale * found], [1], "D", color=VERMILION, ms=9)
    axes.set_yticks([0, 1], [f"random cells (n={len(xs)})", clip(name, 24)])
    axes.set_ylim(-0.6, 1.6)
    axes.margins(x=0.12)
    axes.set_xlabel(f"test {metric.axis}" + ("; band: mean ± sd of random cells" if len(xs) > 1 else ""))
    axes.grid(axis="y", visible=False)
    return figure
