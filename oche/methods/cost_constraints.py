"""Penalties on what the network to be found costs: `latency`, `parameters`, `flops`.

Of logits a (E, O) and masks (E, O) of all groups of edges together; nothing of the network itself is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from oche.core.architecture import Mix
from oche.core.errors import OcheError
from oche.core.registry import singleton
from oche.cost.expected_cost import COUNTS, cost_model, discrete_cost, expected_cost
from oche.cost.latency_table import LatencyTable, latency_model
from oche.cost.units import format_amount
from oche.methods.regularizers import Penalty, parts
from oche.methods.relaxations import Relaxation

if TYPE_CHECKING:
    from oche.cost.expected_cost import CostModel
    from oche.devices.engine import Engine
    from oche.spaces.base import Space


@dataclass(frozen=True)
class CostTarget:
    """What the cost of the found network should be."""

    limit: float | None
    """milliseconds, weights or FLOPs from which a penalty acts; None: always"""
    strength: float = 1.0
    """1 moves logits as far as the optimizer's own step at most"""
    latencies: Path | None = None
    """file with a table of times; None: measured anew"""


@dataclass(frozen=True)
class CostPenalty(Penalty):
    """A penalty on one kind of cost. A `CostTarget` says how much is too much.

    On a command line it comes on top of the penalty that the method has.
    """

    kind: ClassVar[str]
    measured: ClassVar[bool] = False  #: whether it is measured, not counted

    def check_space(self, space: Space) -> None:
        if space.domain != "images":
            raise OcheError(
                f"the penalty {self.kind} prices networks for images, and this space is one for {space.domain}; leave it out"
            )

    def onto(self, default: object) -> Penalty:
        """Both, where ``default`` is a penalty of another kind; its own `CostPenalty` gives way."""
        kept = [p for p in parts(default) if not isinstance(p, CostPenalty)] if isinstance(default, Penalty) else []
        return sum(kept[1:], kept[0]) + self if kept else self

    def costs(self, space: Space, latencies: Path | None, engine: Engine | None) -> CostModel:
        """The costs of the networks of ``space``, at its own sizes; ``latencies``: file with a table of times."""
        return cost_model(space, COUNTS[self.kind])

    def within(
        self, space: Space, relax: Relaxation, target: CostTarget, engine: Engine | None = None
    ) -> CostConstraint:
        """The constraint on networks of ``space``, at its own sizes. Raises `OcheError` for a target out of reach."""
        priced = CostConstraint(
            self.kind, self.costs(space, target.latencies, engine), target.limit, target.strength, relax
        )
        priced.check_reach()
        return priced

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        """() nothing: it is no part of the loss, see `CostConstraint`."""
        return mix.ops.new_zeros(())


@dataclass(frozen=True)
class Latency(CostPenalty):
    """Time of the network, from those of its parts (`oche.cost.latency_table.latency_model`)."""

    kind = "latency"
    measured = True

    def costs(self, space: Space, latencies: Path | None, engine: Engine | None) -> CostModel:
        if latencies is None:
            assert engine is not None  # nothing else can measure
            return latency_model(space, LatencyTable.fresh(engine))
        return latency_model(space, LatencyTable.open(latencies))


@dataclass(frozen=True)
class Parameters(CostPenalty):
    """Number of weights, without an auxiliary tower."""

    kind = "parameters"


@dataclass(frozen=True)
class Flops(CostPenalty):
    """FLOPs of one image forward: two for each multiply-add of convolutions and linear layers."""

    kind = "flops"


latency = singleton("latency", Latency())
parameters = singleton("parameters", Parameters())
flops = singleton("flops", Flops())


@dataclass(frozen=True)
class CostConstraint:
    """What a search does about the cost of the network that it is to find.

    With C the cost of the cell that would be read off now (`oche.cost.expected_cost.discrete_cost`) and E the expected cost of the
    mixture (`oche.cost.expected_cost.expected_cost`), while C is above the target, or always without one, every step of the architecture
    is followed by::

        a <- a − strength · s · ∇ log E / its largest entry

    s: how far the optimiser moves a logit in a step, at most. A strength of 1 is as strong as the loss can be.

    Deviation 1 from ProxylessNAS (1812.00332 §3.3.1), which adds the expected latency to the loss, and FBNet (1812.03443
    §3.2), which multiplies the loss by α · log(latency)^β: here it is a step of its own, as AdamW (1711.05101) decays weights.
    Adam divides each logit's gradient by its own size; with the decay of β-DARTS in the same gradient, which pulls all
    logits alike and grows, what is left of a constant term is its sign turned round: searches found the dearest cell.
    Deviation 2 from both: the target is compared with the cost of the cell, not with the expected one. A mixture is far from
    decided for most of a search, and its expected cost then close to the mean of all cells, whatever cell it leads to.
    Deviation 3: the mixture is the noise-free one, whatever the step draws; FBNet's is its sample.
    """

    kind: str
    costs: CostModel
    target: float | None
    strength: float
    relax: Relaxation

    def cost(self, pairs: Iterable[tuple[Tensor, Tensor]], progress: float) -> tuple[Tensor, Tensor]:
        """(E, C) of (logits, mask) of every group, in the order of the space; see the class."""
        found = self.costs
        total = []
        for (name, dag), (a, alive) in zip(found.dags.items(), pairs, strict=True):
            mix = self.relax(a, alive, dag, None, progress)
            given = (mix, alive, dag, found.candidates, found.on(name, a.device, a.dtype))
            total.append(torch.stack([expected_cost(*given), discrete_cost(*given)]))
        soft, hard = torch.stack(total).sum(0).unbind()
        return soft + found.fixed, hard + found.fixed

    def excess(self, pairs: Iterable[tuple[Tensor, Tensor]], progress: float) -> float:
        """strength · max(0, log(C / target)); without a target strength · log C."""
        with torch.no_grad():
            cost = self.cost(pairs, progress)[1]
        return self.strength * float(
            (cost / (self.target or 1.0)).log().clamp_min(-inf if self.target is None else 0.0)
        )

    def step(self, logits: Sequence[Tensor], alive: Iterable[Tensor], progress: float, size: Tensor | float) -> None:
        """Moves ``logits``, of every group, as the class says; ``size``: s."""
        soft, hard = self.cost(zip(logits, alive, strict=True), progress)
        slopes = torch.autograd.grad(soft.log(), logits)
        largest = torch.stack([slope.abs().max() for slope in slopes]).max()
        scale = self.strength * size / largest.clamp_min(torch.finfo(largest.dtype).tiny)
        if self.target is not None:
            scale = torch.where(hard > self.target, scale, 0.0)
        with torch.no_grad():
            for a, slope in zip(logits, slopes, strict=True):
                a.sub_(scale * slope)

    def check_reach(self) -> None:
        """Raises `OcheError` for a target below the cheapest network of the space, or above the dearest."""
        if self.target is None:
            return
        least, most = self.costs.bounds
        if not least <= self.target <= most:
            where = "below" if self.target < least else "above"
            raise OcheError(
                f"target {format_amount(self.target, self.kind)} is {where} every network of this size ({self.kind} from "
                f"{format_amount(least, self.kind)} to {format_amount(most, self.kind)}); choose one between, or another --search.cost_recipe"
            )

    def words(self) -> str:
        """For people: what is priced, and between what bounds."""
        least, most = (format_amount(end, self.kind) for end in self.costs.bounds)
        target = "the less the better" if self.target is None else f"target {format_amount(self.target, self.kind)}"
        return f"{self.kind}, from {least} to {most} in this space: {target}, strength {self.strength:g}"

    def describe(self) -> dict[str, object]:
        """For records: what is priced, the least and the most that a network of the space costs, and the target."""
        least, most = self.costs.bounds
        return {"kind": self.kind, "target": self.target, "strength": self.strength, "least": least, "most": most}
