"""Penalties on the cost of the network that a search finds: `latency`, `parameters`, `flops`.

They are functions of the logits a (E, O) and masks (E, O) of all groups of edges together. No network is evaluated. E:
edges of a cell, O: candidate operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from oche.core.architecture import Mix
from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.registry import singleton
from oche.cost.expected_cost import COUNTS, cost_model, discrete_cost, expected_cost
from oche.cost.latency_table import LatencyTable, latency_model
from oche.cost.units import format_amount
from oche.methods.cost_in_loss import CostForm
from oche.methods.regularizers import Penalty, summands
from oche.methods.relaxations import Relaxation

if TYPE_CHECKING:
    from oche.cost.expected_cost import CostModel
    from oche.devices.engine import Engine
    from oche.spaces.base import Space


@checked
@dataclass(frozen=True)
class CostTarget:
    """A target for the cost of the network to be found."""

    limit: float | None
    """milliseconds, weights or FLOPs above which the penalty acts; None: always"""
    strength: float = 1.0
    """strength of the penalty; 1 moves logits at most as far as the optimizer's own step"""
    latencies: Path | None = None
    """file with a latency table; None: latencies are measured"""


@dataclass(frozen=True)
class CostPenalty(Penalty):
    """A penalty on one kind of cost. A `CostTarget` gives its limit and strength.

    On a command line it is added to the penalty that the method has.
    """

    kind: ClassVar[str]
    measured: ClassVar[bool] = False  #: whether the cost is measured on a device; otherwise it is counted

    def check_space(self, space: Space) -> None:
        """Raise `OcheError` unless the networks of ``space`` take images."""
        if space.domain != "images":
            raise OcheError(
                f"the penalty {self.kind} prices networks for images, and this space is one for {space.domain}; leave it out"
            )

    def onto(self, default: object) -> Penalty:
        """Return this penalty added to ``default``, the penalty of a method. It replaces another `CostPenalty` there."""
        kept = [p for p in summands(default) if not isinstance(p, CostPenalty)] if isinstance(default, Penalty) else []
        return sum(kept[1:], kept[0]) + self if kept else self

    def make_cost_model(self, space: Space, latencies: Path | None, engine: Engine | None) -> CostModel:
        """Return the costs of the networks of ``space``, at its own sizes. ``latencies``: file with a latency table."""
        return cost_model(space, COUNTS[self.kind])

    def constraint(
        self,
        space: Space,
        relax: Relaxation,
        target: CostTarget,
        engine: Engine | None = None,
        form: CostForm | None = None,
    ) -> CostConstraint:
        """Return the constraint on networks of ``space``, at its own sizes. Raises `OcheError` for a target out of reach."""
        costs = self.make_cost_model(space, target.latencies, engine)
        constraint = CostConstraint(self.kind, costs, target.limit, target.strength, relax, form)
        constraint.check_reachable()
        return constraint

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        """Return zero (): a penalty on cost is not part of the loss, see `CostConstraint`."""
        return mix.ops.new_zeros(())


@dataclass(frozen=True)
class Latency(CostPenalty):
    """Latency of the network: the sum of the latencies of its parts (`oche.cost.latency_table.latency_model`)."""

    kind = "latency"
    measured = True

    def make_cost_model(self, space: Space, latencies: Path | None, engine: Engine | None) -> CostModel:
        if latencies is None:
            assert engine is not None  # measuring takes a device
            return latency_model(space, LatencyTable.fresh(engine))
        return latency_model(space, LatencyTable.open(latencies))


@dataclass(frozen=True)
class Parameters(CostPenalty):
    """Number of weights, without an auxiliary tower."""

    kind = "parameters"


@dataclass(frozen=True)
class Flops(CostPenalty):
    """FLOPs of a forward pass on one image: two for each multiply-add of convolutions and linear layers."""

    kind = "flops"


latency = singleton("latency", Latency())
parameters = singleton("parameters", Parameters())
flops = singleton("flops", Flops())


@dataclass(frozen=True)
class CostConstraint:
    """The constraint that a search puts on the cost of the network to be found.

    Let C be the cost of the cell that would be read off now (`oche.cost.expected_cost.discrete_cost`), and E the expected
    cost of the mixture (`oche.cost.expected_cost.expected_cost`). While C is above the target, or always if there is no
    target, every step of the architecture is followed by::

        a <- a − strength · s · ∇ log E / max |∇ log E|

    where s is the largest distance that the optimizer moves a logit in one step. With a strength of 1 the constraint can be
    as strong as the loss.

    Deviation 1: ProxylessNAS (1812.00332 §3.3.1) adds the expected latency to the loss, and FBNet (1812.03443 §3.2)
    multiplies the loss by α · log(latency)^β. Here it is a step of its own, as AdamW (1711.05101) decays weights. The
    reason: Adam divides the gradient of each logit by its own size. The decay of β-DARTS in the same gradient pulls all
    logits alike, and grows. What remained of a constant cost term was its sign, reversed, and searches found the most
    expensive cell.

    Deviation 2 from both: the target is compared with the cost of the cell, not with the expected cost. For most of a
    search the mixture is far from decided, and its expected cost is close to the mean of all cells, whatever cell it leads
    to.

    Deviation 3: the mixture is the noise-free one, whatever the step draws; FBNet takes its sample.

    With a ``form`` the constraint is part of the loss instead, as in the papers, and takes the mixture of the step.
    """

    kind: str
    """latency, parameters or flops"""
    costs: CostModel
    """costs of the networks of the space"""
    target: float | None
    """cost above which the constraint acts: milliseconds, weights or FLOPs; None: always"""
    strength: float
    """1: as strong as the loss can be"""
    relax: Relaxation
    """the relaxation of the method"""
    form: CostForm | None = None
    """the loss as a function of the loss on the data and the cost; None: a step of its own"""

    def cost(self, pairs: Iterable[tuple[Tensor, Tensor]], progress: float) -> tuple[Tensor, Tensor]:
        """Return (E, C), two tensors (), for the (logits, mask) of every group in the order of the space. See the class."""
        model, total = self.costs, []
        for (name, dag), (a, alive) in zip(model.dags.items(), pairs, strict=True):
            mix = self.relax(a, alive, dag, None, progress)
            given = (mix, alive, dag, model.candidates, model.on(name, a.device, a.dtype))
            total.append(torch.stack([expected_cost(*given), discrete_cost(*given)]))
        expected, discrete = torch.stack(total).sum(0).unbind()
        return expected + model.fixed, discrete + model.fixed

    def excess(self, pairs: Iterable[tuple[Tensor, Tensor]], progress: float) -> float:
        """Return strength · max(0, log(C / target)); without a target, strength · log C."""
        with torch.no_grad():
            cost = self.cost(pairs, progress)[1]
        return self.strength * float(
            (cost / (self.target or 1.0)).log().clamp_min(-inf if self.target is None else 0.0)
        )

    def step(self, logits: Sequence[Tensor], alive: Iterable[Tensor], progress: float, size: Tensor | float) -> None:
        """Move ``logits``, those of every group, in place, as the class describes. ``size`` is s. With a form, do nothing."""
        if self.form is not None:
            return
        expected, discrete = self.cost(zip(logits, alive, strict=True), progress)
        slopes = torch.autograd.grad(expected.log(), logits)
        largest = torch.stack([slope.abs().max() for slope in slopes]).max()
        scale = self.strength * size / largest.clamp_min(torch.finfo(largest.dtype).tiny)
        if self.target is not None:
            scale = torch.where(discrete > self.target, scale, 0.0)
        with torch.no_grad():
            for a, slope in zip(logits, slopes, strict=True):
                a.sub_(scale * slope)

    def in_loss(self, loss: Tensor, mixes: Mapping[str, Mix], alive: Mapping[str, Tensor]) -> Tensor:
        """Return ``loss`` with the expected cost of ``mixes`` in it; without a form, ``loss`` itself. ``alive``: masks (E, O)."""
        if self.form is None:
            return loss
        model, total = self.costs, loss.new_tensor(self.costs.fixed)
        for name, dag in model.dags.items():
            mix = mixes[name]
            on = model.on(name, mix.ops.device, mix.ops.dtype)
            total = total + expected_cost(mix, alive[name], dag, model.candidates, on).to(loss.dtype)
        return self.form(loss, total, self.target, self.strength)

    def check_reachable(self) -> None:
        """Raise `OcheError` if the target is below the cheapest network of the space, or above the most expensive.

        A form may refuse costs and targets, too.
        """
        if self.form is not None:
            self.form.check(self.costs.bounds[0], self.target)
        if self.target is None:
            return
        least, most = self.costs.bounds
        if not least <= self.target <= most:
            where = "below" if self.target < least else "above"
            raise OcheError(
                f"target {format_amount(self.target, self.kind)} is {where} every network of this size ({self.kind} from "
                f"{format_amount(least, self.kind)} to {format_amount(most, self.kind)}); "
                "choose one between, or another --search.cost_recipe"
            )

    def summarize(self) -> str:
        """Return one line for people: the kind of cost, its bounds in the space, the target and the strength."""
        least, most = (format_amount(end, self.kind) for end in self.costs.bounds)
        target = "the less the better" if self.target is None else f"target {format_amount(self.target, self.kind)}"
        return f"{self.kind}, from {least} to {most} in this space: {target}, strength {self.strength:g}"

    def describe(self) -> dict[str, object]:
        """Return the same as plain values, for space.json. ``least`` and ``most`` bound the costs of the space's networks."""
        least, most = self.costs.bounds
        return {"kind": self.kind, "target": self.target, "strength": self.strength, "least": least, "most": most}
