"""What the networks of a run are measured by: accuracy of images, perplexity of language models."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

UNKNOWN = "–"


@dataclass(frozen=True)
class Measure:
    """``key`` ends the names of records (test_acc); numbers are shown times ``scale``, with ``unit``."""

    key: str
    name: str
    on: str  #: what it is measured on
    scale: float
    unit: str
    higher: bool  #: whether more is better

    @property
    def axis(self) -> str:
        """Label of an axis."""
        return self.name + (f" ({self.unit.strip()})" if self.unit else "")

    def text(self, value: float | None, digits: int = 2) -> str:
        """0.9812 → "98.12 %", 58.1 → "58.10"."""
        return UNKNOWN if value is None else f"{self.scale * value:.{digits}f}{self.unit}"

    def mean_sd(self, values: Sequence[float]) -> str:
        """`spread` of ``values``, with the unit."""
        return f"{spread([self.scale * v for v in values])}{self.unit if values else ''}"

    def better(self, one: float, other: float) -> bool:
        return one > other if self.higher else one < other


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and, of two or more, sample standard deviation: "2,040.0 ± 31.5"."""
    sd = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):,.{digits}f}{sd}" if values else UNKNOWN


ACCURACY = Measure("acc", "accuracy", "images", 100.0, "\u00a0%", True)  # a number and its unit stay on one line
PERPLEXITY = Measure("ppl", "perplexity", "text", 1.0, "", False)
