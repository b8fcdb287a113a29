"""Figures of an `oche.analysis.classification.Assessment`: confusion matrix, reliability diagram, the most confident mistakes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from oche.analysis.classification import Assessment, Mistake
from oche.report.drawings.scene import clip
from oche.report.plots.style import MUTED, PAPER, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 25  # with more classes the matrix shows no names and numbers
_ACROSS = 6  # mistakes in a row


@styled
def confusion_matrix(found: Assessment, title: str = "Confusion matrix") -> Figure:
    """Draw the confusion matrix (K, K): rows are true classes, columns predicted classes.

    The colour is the share of the row, on a scale that makes small shares visible.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    k = len(found.classes)
    shares = [[n / max(sum(row), 1) for n in row] for row in found.confusion]
    side = 2.2 + 0.36 * k if k <= _NAMED else 5.2
    figure = new_figure(max(side, 3.6), max(side - 0.5, 3.2))
    axes = figure.add_subplot()
    axes.grid(False)
    norm = PowerNorm(0.4, 0, 1)  # a share of one in a hundred is visible
    if k <= _NAMED:
        colours = colormaps["viridis"].resampled(64)
        axes.pcolormesh(shares, norm=norm, cmap=colours, edgecolors=PAPER, linewidth=0.4)
        axes.invert_yaxis()
        _annotate(axes, found)
    else:
        axes.imshow(shares, norm=norm, cmap="viridis", interpolation="nearest")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set(title=clip(title, 48), xlabel="predicted class", ylabel="true class")
    return figure


def _annotate(axes: Axes, found: Assessment) -> None:
    """Name the classes and write the number of images into each square."""
    k = len(found.classes)
    names, ticks = [clip(name, 14) for name in found.classes], [i + 0.5 for i in range(k)]
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(ticks, names)
    axes.tick_params(length=0, labelsize=8)
    for i, row in enumerate(found.confusion):
        for j, n in enumerate(row):
            light = n / max(sum(row), 1) > 0.18  # the middle of the colour scale
            if n:
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    f"{n}",
                    ha="center",
                    va="center",
                    size=7.5,
                    color="#101418" if light else "#f6f8fa",
                )


@styled
def reliability_diagram(found: Assessment, title: str = "Reliability") -> Figure:
    """Draw accuracy by confidence (1706.04599 Figure 1), and below it the number of images in each bin."""
    from matplotlib.ticker import StrMethodFormatter

    figure = new_figure(4.6, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 100 / len(found.bins)
    known = [
        (m, b.count, 100 * b.confidence, 100 * b.accuracy)
        for m, b in enumerate(found.bins)
        if b.confidence is not None and b.accuracy is not None
    ]
    lefts, counts = [width * m for m, *_ in known], [count for _, count, *_ in known]
    upper.plot([0, 100], [0, 100], color=MUTED, lw=1.2, ls=(0, (5, 3)), label="perfectly calibrated")
    upper.bar(lefts, [a for *_, a in known], width, align="edge", color=SERIES[0], alpha=0.75, lw=0)
    for _, _, confidence, accuracy in known:
        upper.plot([confidence, confidence], [confidence, accuracy], color=VERMILION, lw=2)
    upper.plot([], [], color=VERMILION, lw=2, label="gap: accuracy − confidence")
    lower.bar(lefts, counts, width, align="edge", color=SERIES[0], alpha=0.75, lw=0)
    lower.set_yscale("symlog", linthresh=1)
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    upper.set(xlim=(0, 100), ylim=(0, 105), ylabel="accuracy (%)", title=clip(title, 48))
    lower.set(xlabel="confidence (%)", ylabel="images")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


@styled
def mistakes(found: Assessment, title: str = "Most confident mistakes") -> Figure:
    """Draw the most confident mistakes: each image with its predicted and its true class, and their probabilities."""
    from PIL import Image

    shown = [m for m in found.mistakes if m.png]
    rows = -(-len(shown) // _ACROSS) or 1
    figure = new_figure(1.25 * _ACROSS, 0.4 + 1.6 * rows)
    grid = [*figure.subplots(rows, _ACROSS, squeeze=False).flat]
    for axes in grid:
        axes.axis("off")
    for axes, mistake in zip(grid, shown, strict=False):
        image = Image.open(io.BytesIO(base64.b64decode(mistake.png)))
        axes.imshow(image.convert("RGB"), interpolation="nearest")
        axes.set_title(mistake_text(found, mistake, 12), size=7, weight="normal")
    figure.suptitle(clip(title, 48), size=10, weight="bold")
    return figure


def mistake_text(found: Assessment, mistake: Mistake, width: int = 24) -> str:
    """Write "pred. cat 99.8 %" and "true dog 0.1 %" in two lines; class names are cut to ``width`` columns."""
    predicted, true = (clip(found.classes[k], width) for k in (mistake.predicted, mistake.true))
    return f"pred. {predicted} {100 * mistake.confidence:.1f} %\ntrue {true} {100 * mistake.own:.1f} %"
