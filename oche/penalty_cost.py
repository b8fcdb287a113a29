"""Penalties on what the network to be found costs: `latency`, `parameters`, `flops`.

Of logits a (E, O) and masks (E, O) of all groups of edges together; nothing of the network itself is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from .arch import Mix
from .errors import OcheError
from .penalty import Group, Penalty, parts
from .registry import singleton
from .relax import Relaxation

if TYPE_CHECKING:
    from .cost.prices import Prices
    from .method import Method
    from .run.engine import Engine
    from .spaces.space import Space


@dataclass(frozen=True)
class Resource(Penalty):
    """A penalty on one kind of cost. The method says how much is too much: `Method.target`, `strength` and `priced`.

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
        """Both, where ``default`` is a penalty of another kind; its own Resource gives way."""
        kept = [p for p in parts(default) if not isinstance(p, Resource)] if isinstance(default, Penalty) else []
        return sum(kept[1:], kept[0]) + self if kept else self

    def prices(self, space: Space, method: Method, engine: Engine | None) -> Prices:
        """Of the networks of ``space``, at its own sizes."""
        from .cost.prices import COUNTS, prices

        return prices(space, COUNTS[self.kind])

    def within(self, method: Method, space: Space, engine: Engine | None = None) -> Priced:
        from .cost.survey import sized

        found = self.prices(sized(space, method.priced or space.recipe), method, engine)
        priced = Priced(self.kind, found, method.limit, method.strength, method.relax)
        priced.check_reach()
        return priced

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        raise TypeError(f"{self.kind} has a price only within a search; see Penalty.within")


@dataclass(frozen=True)
class Latency(Resource):
    """Time of the network, from those of its parts (`oche.cost.table.latencies`)."""

    kind = "latency"
    measured = True

    def prices(self, space: Space, method: Method, engine: Engine | None) -> Prices:
        from .cost.table import Table, latencies

        if method.latencies is not None:
            return latencies(space, Table.open(method.latencies))
        assert engine is not None  # nothing else can measure
        return latencies(space, Table.fresh(engine))


@dataclass(frozen=True)
class Parameters(Resource):
    """Number of weights, without an auxiliary tower."""

    kind = "parameters"


@dataclass(frozen=True)
class Flops(Resource):
    """FLOPs of one image forward: two for each multiply-add of convolutions and linear layers."""

    kind = "flops"


latency = singleton("latency", Latency())
parameters = singleton("parameters", Parameters())
flops = singleton("flops", Flops())


@dataclass(frozen=True)
class Priced(Penalty):
    """strength · max(0, log(cost / target)), by the cell that would be read off now; its gradient is that of the expected cost.

    With C the cost of that cell (`oche.cost.prices.settled`) and E the expected cost (`oche.cost.prices.expected`)::

        C > target    gradient strength · ∇E / E
        else          none

    Without a target the gradient is always there. The logarithm makes the strength a number without units.

    Deviation 1 from ProxylessNAS (1812.00332 §3.3.1), which adds the expected latency itself, times a strength in 1/ms.
    Deviation 2 from FBNet (1812.03443 §3.2), which multiplies the loss by α · log(latency)^β: here it is added, so that it
    composes with other penalties, and a target ends it.
    Deviation 3 from both: the target is compared with the cost of the cell, not with the expected one. A mixture is far from
    decided for most of a search, and its expected cost is then close to the mean of all cells, whatever cell it leads to.
    Deviation 4: the mixture is the noise-free one, whatever the step draws; FBNet's is its sample.
    """

    kind: str
    prices: Prices
    target: float | None
    strength: float
    relax: Relaxation

    def cost(self, pairs: Iterable[tuple[Tensor, Tensor]], progress: float) -> tuple[Tensor, Tensor]:
        """(E, C) of (logits, mask) of every group, in the order of the space; see the class."""
        from .cost.prices import expected, settled

        found = self.prices
        total = []
        for (name, dag), (a, alive) in zip(found.dags.items(), pairs, strict=True):
            mix = self.relax(a, alive, dag, None, progress)
            given = (mix, alive, dag, found.candidates, found.on(name, a.device, a.dtype))
            total.append(torch.stack([expected(*given), settled(*given)]))
        soft, hard = torch.stack(total).sum(0).unbind()
        return soft + found.fixed, hard + found.fixed

    def over(self, groups: Iterable[Group], progress: float) -> Tensor:
        soft, hard = self.cost([(a, alive) for a, alive, _ in groups], progress)
        steers = soft.log() - soft.log().detach()  # 0 in value
        if self.target is None:
            return self.strength * (hard.log() + steers)
        return self.strength * torch.where(hard > self.target, (hard / self.target).log() + steers, 0.0 * steers)

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        return self.over([(a, alive, mix)], progress)

    def check_reach(self) -> None:
        """Raises `OcheError` for a target below the cheapest network of the space, or above the dearest."""
        from .cost.units import words

        if self.target is None:
            return
        least, most = self.prices.bounds
        if not least <= self.target <= most:
            where = "below" if self.target < least else "above"
            raise OcheError(
                f"target {words(self.target, self.kind)} is {where} every network of this size ({self.kind} from "
                f"{words(least, self.kind)} to {words(most, self.kind)}); choose one between, or another --search.priced"
            )

    def words(self) -> str:
        """For people: what is priced, and between what bounds."""
        from .cost.units import words

        least, most = (words(end, self.kind) for end in self.prices.bounds)
        target = "the less the better" if self.target is None else f"target {words(self.target, self.kind)}"
        return f"{self.kind}, from {least} to {most} in this space: {target}, strength {self.strength:g}"

    def describe(self) -> dict[str, object]:
        """For records: what is priced, the least and the most that a network of the space costs, and the target."""
        least, most = self.prices.bounds
        return {"kind": self.kind, "target": self.target, "strength": self.strength, "least": least, "most": most}
