"""What the network of the cell costs over a search that was told to mind it: parameters, FLOPs or latency.

Records of such a search hold ``cost``, what the mixture is expected to cost, and ``cost_found``, the cost of the network of the
cell that would be chosen at that epoch; space.json says under ``priced`` what is counted, and the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oche.report.format_text import prefix, scaled
from oche.report.metric_names import ACCURACY, UNKNOWN, Measure
from oche.report.mixture_history import number
from oche.report.plots.curves import curve
from oche.report.plots.style import MUTED, SERIES, VERMILION, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {"parameters": ("parameters", ""), "flops": ("FLOPs", "FLOPs"), "latency": ("latency", "ms")}
KINDS = tuple(_NAMES)


@dataclass(frozen=True)
class Price:
    """``kind``: "parameters", "flops" or "latency"; ``target``: in weights, FLOPs or ms, None for as can be."""

    kind: str
    target: float | None

    @classmethod
    def of(cls, space: Mapping[str, Any]) -> Price | None:
        """What space.json says; None of a search that minds no cost."""
        said = space.get("priced")
        if not isinstance(said, dict) or not isinstance(kind := said.get("kind"), str) or kind not in _NAMES:
            return None
        return cls(kind, number(said.get("target")))

    @property
    def name(self) -> str:
        return _NAMES[self.kind][0]

    def text(self, value: float | None) -> str:
        """852742 → "852.7 k", 1.07e9 → "1.07 GFLOPs", 4.7 → "4.7 ms"."""
        if value is None:
            return UNKNOWN
        if self.kind == "latency":
            return f"{value:.4g} ms"
        shown = scaled(value)
        return shown + _NAMES[self.kind][1] if shown[-1].isalpha() else f"{shown} {_NAMES[self.kind][1]}".strip()

    def measure(self, most: float) -> Measure:
        """How values up to ``most`` are written on an axis."""
        size, letter = (1.0, "") if self.kind == "latency" else prefix(most)
        unit = f"{letter}{_NAMES[self.kind][1]}"
        return Measure("cost_found", self.name, "", 1 / size, f" {unit}" if unit else "", False)


def known(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any record tells a cost."""
    return any(r.get(key) is not None for r in records for key in ("cost", "cost_found"))


def told(records: Sequence[Mapping[str, Any]], price: Price) -> str:
    """What came of it so far, in words."""
    last = next((r for r in reversed(records) if r.get("cost") is not None), {})
    mixture, cell = last.get("cost"), last.get("cost_found")
    if mixture is None:
        return ""
    aim = "as little as can be" if price.target is None else f"at most {price.text(price.target)}"
    text = (
        f"The search was to mind the {price.name} of the network to be found: {aim}. At epoch {last['epoch']} its mixture is "
        f"expected to cost {price.text(mixture)}"
    )
    if cell is None:
        return f"{text}."
    text += f", and the network of the cell chosen then costs {price.text(cell)}"
    if price.target is None:
        return f"{text}."
    return f"{text}, {'within' if cell <= price.target else 'above'} the target."


@styled
def costs(records: Sequence[Mapping[str, Any]], price: Price, measure: Measure = ACCURACY) -> Figure:
    """The cost expected of the mixture and that of the cell chosen, with the target; below, ``measure`` in validation."""
    figure = new_figure(5.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    values = [v for r in records for key in ("cost", "cost_found") if (v := r.get(key)) is not None]
    axis = price.measure(max([*values, price.target or 0.0]))
    for key, label, colour, dash in (
        ("cost", "expected of the mixture", SERIES[0], "--"),
        ("cost_found", "of the cell chosen then", VERMILION, "-"),
    ):
        curve(upper, records, lambda r, key=key: r.get(key), label, colour, dash, axis.scale)
    if price.target is not None:
        label = f"target {price.text(price.target)}"
        upper.axhline(axis.scale * price.target, color=MUTED, ls=(0, (5, 3)), lw=1.3, label=label)
    upper.set(title=f"{price.name[0].upper()}{price.name[1:]} of the network to be found", ylabel=axis.axis)
    upper.margins(y=0.1)
    upper.legend(fontsize=8)
    curve(
        lower,
        records,
        lambda r: r.get(f"val_{measure.key}"),
        "validation in the search",
        SERIES[0],
        scale=measure.scale,
    )
    lower.set(xlabel="epoch", ylabel=measure.axis)
    return figure
