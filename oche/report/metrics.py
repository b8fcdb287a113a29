"""The metrics of a run: accuracy on images, perplexity on text, and the cost that a search takes into account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oche.report.format_numbers import UNKNOWN, finite_float, format_mean_sd, format_scaled, si_prefix


@dataclass(frozen=True)
class Metric:
    """A metric of networks, and how its values are written: times ``scale``, with ``unit``."""

    key: str
    """end of the names that records have for it: "acc" of test_acc"""
    name: str
    on: str
    """kind of data that it is measured on"""
    scale: float
    unit: str
    higher: bool
    """whether higher values are better"""

    @property
    def axis(self) -> str:
        """Label of an axis: "accuracy (%)"."""
        return self.name + (f" ({self.unit.strip()})" if self.unit else "")

    def text(self, value: float | None, digits: int = 2) -> str:
        """Write a value: 0.9812 → "98.12 %", 58.1 → "58.10"."""
        return UNKNOWN if value is None else f"{self.scale * value:.{digits}f}{self.unit}"

    def mean_sd(self, values: Sequence[float]) -> str:
        """Write mean and sample standard deviation of ``values``, with the unit."""
        return f"{format_mean_sd([self.scale * v for v in values])}{self.unit if values else ''}"

    def better(self, one: float, other: float) -> bool:
        """Whether ``one`` is better than ``other``."""
        return one > other if self.higher else one < other


ACCURACY = Metric("acc", "accuracy", "images", 100.0, "\u00a0%", True)  # the number and its unit stay on one line
PERPLEXITY = Metric("ppl", "perplexity", "text", 1.0, "", False)


def percent(share: float | None, digits: int = 2) -> str:
    """Write a share of 1: 0.9812 → "98.12 %"."""
    return ACCURACY.text(share, digits)


# --- cost of the final network ------------------------------------------------------------------------------------------

_COSTS = {"parameters": ("parameters", ""), "flops": ("FLOPs", "FLOPs"), "latency": ("latency", "ms")}  # name, unit
COST_KINDS = tuple(_COSTS)


@dataclass(frozen=True)
class CostTarget:
    """The cost of the final network that a search optimises beside its loss.

    Records of such a search hold ``cost``, the expected cost of the mixture, and ``cost_found``, the cost of the network
    that is built of the cell chosen at that epoch.
    """

    kind: str
    """one of `COST_KINDS`"""
    target: float | None
    """upper limit, in weights, FLOPs or milliseconds; None: no limit"""

    @classmethod
    def of(cls, space: Mapping[str, Any]) -> CostTarget | None:
        """Read the entry ``priced`` of a run's space.json; None for a search without a cost."""
        entry = space.get("priced")
        if not isinstance(entry, dict) or not isinstance(kind := entry.get("kind"), str) or kind not in _COSTS:
            return None
        return cls(kind, finite_float(entry.get("target")))

    @property
    def name(self) -> str:
        return _COSTS[self.kind][0]

    def text(self, value: float | None) -> str:
        """Write a cost with its unit: 852742 → "852.7 k", 1.07e9 → "1.07 GFLOPs", 4.7 → "4.7 ms"."""
        if value is None:
            return UNKNOWN
        if self.kind == "latency":
            return f"{value:.4g} ms"
        shown, unit = format_scaled(value), _COSTS[self.kind][1]
        return shown + unit if shown[-1].isalpha() else f"{shown} {unit}".strip()

    def metric(self, largest: float) -> Metric:
        """Return the cost as a metric whose unit suits values up to ``largest``."""
        size, letter = (1.0, "") if self.kind == "latency" else si_prefix(largest)
        unit = f"{letter}{_COSTS[self.kind][1]}"
        return Metric("cost_found", self.name, "", 1 / size, f" {unit}" if unit else "", False)
