"""Random search of hyper-parameters in a study. The points follow from the study's file alone, so a study can be continued.

Every trial of the grid runs at each of ``samples`` points. On Ray, asynchronous successive halving (ASHA, 1810.05934) stops
the worse ones early; elsewhere all of them run to their end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from oche.core.config.serialize import from_dict
from oche.core.errors import OcheError, did_you_mean
from oche.core.seeds import derive_seed

Draw = tuple[str, tuple[Any, ...]]  # kind of distribution, its bounds or values


@dataclass(frozen=True, kw_only=True)
class Tune:
    """The settings to draw, and when to stop a trial. Raises `OcheError` for impossible values."""

    samples: int = 8
    """number of points"""
    seed: int = 0
    """seed of the points"""
    grace: int = 1
    """smallest number of epochs of a trial"""
    reduction: int = 3
    """one in this many trials continues at each rung; the rungs are at grace, grace x reduction, … epochs"""
    over: tuple[tuple[str, Draw], ...] = ()
    """settings with their distributions"""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.grace < 1 or self.reduction < 2:
            raise OcheError(
                f"samples={self.samples}, grace={self.grace}, reduction={self.reduction} tune nothing; "
                "use samples >= 1, grace >= 1, reduction >= 2"
            )

    @classmethod
    def of(cls, tree: Any, where: str) -> Tune:
        """Read the section ``tree`` of a file. Raises `OcheError`."""
        if not isinstance(tree, dict) or not isinstance(tree.get("over"), dict) or not tree["over"]:
            raise OcheError(
                f"{where}: tune: write over: with settings to draw, such as search.a.lr: {{log: [1e-4, 1e-2]}}"
            )
        over = tuple((str(key), _draw(draw, f"{where}: tune.over.{key}")) for key, draw in tree["over"].items())
        return from_dict(cls(over=over), {k: v for k, v in tree.items() if k != "over"}, f"{where}: tune")

    @property
    def tree(self) -> dict[str, Any]:
        """The section of a file that describes the same."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "over"}
        return {**own, "over": {key: {kind: list(values)} for key, (kind, values) in self.over}}

    def points(self) -> list[dict[str, Any]]:
        """The settings of each point. With more samples, the first points stay the same."""
        return [
            {
                key: _DRAWS[kind](random.Random(derive_seed(self.seed, "tune", key, i)), values)
                for key, (kind, values) in self.over
            }
            for i in range(self.samples)
        ]


def _log(source: random.Random, values: Sequence[float]) -> float:
    low, high = map(math.log, values)
    return _round(math.exp(source.uniform(low, high)))


def _uniform(source: random.Random, values: Sequence[float]) -> float:
    return _round(source.uniform(*values))


def _round(x: float) -> float:
    """Round to four digits, which are readable and exact enough."""
    return float(f"{x:.4g}")


_DRAWS: dict[str, Callable[[random.Random, Sequence[Any]], Any]] = {
    "log": _log,
    "uniform": _uniform,
    "among": lambda source, values: source.choice(values),
}


def _draw(tree: Any, place: str) -> Draw:
    if not isinstance(tree, dict) or len(tree) != 1:
        raise OcheError(
            f"{place}: expected one of log, uniform, among; write {{log: [1e-4, 1e-2]}} or {{among: [32, 64]}}"
        )
    ((kind, values),) = tree.items()
    if kind not in _DRAWS:
        raise OcheError(f"{place}: unknown {kind!r}{did_you_mean(str(kind), [*_DRAWS])}; known: {', '.join(_DRAWS)}")
    if not isinstance(values, list) or not values:
        raise OcheError(f"{place}.{kind}: expected a list, found {values!r}")
    return (kind, tuple(values)) if kind == "among" else (kind, _bounds(values, kind, f"{place}.{kind}"))


def _bounds(values: list[Any], kind: str, place: str) -> tuple[float, float]:
    try:
        low, high = map(float, values)  # PyYAML takes 1e-4 for text
    except (TypeError, ValueError):
        raise OcheError(f"{place}: expected two numbers, found {values!r}") from None
    if not (0 < low < high < math.inf if kind == "log" else -math.inf < low < high < math.inf):
        above = " above 0" if kind == "log" else ""
        raise OcheError(f"{place}: expected two numbers{above}, the lower one first; found {values!r}")
    return low, high
