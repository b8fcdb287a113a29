"""What `oche cost` says: a whole network, its parts, and every candidate wherever the network has room for one.

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from oche.core.architecture import Genotype
from oche.cost.breakdown import Place, parts, survey
from oche.cost.counters import flops, parameters
from oche.cost.latency_table import Table, time_of
from oche.cost.timer import Timing
from oche.devices.engine import Engine
from oche.networks.build import FinalNetwork
from oche.spaces.base import Space


@dataclass(frozen=True)
class Cost:
    """Of one forward of one image, except that the time is that of a batch."""

    parameters: int
    flops: int
    """two for each multiply-add of convolutions and linear layers; nothing else is counted"""
    time: Timing

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.flops // 2


@dataclass(frozen=True)
class Candidate:
    """An operation at one place."""

    operation: str
    place: Place
    cost: Cost


@dataclass(frozen=True)
class Costs:
    """What a network costs, and what each candidate would cost in it."""

    network: Cost
    parts: float
    """milliseconds of all its parts, each measured alone"""
    candidates: tuple[Candidate, ...]
    about: dict[str, Any]
    """what it was measured on, see `oche.cost.latency_table.hardware`"""

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        rows = [
            {"operation": c.operation, **asdict(c.place), "macs": c.cost.macs, **asdict(c.cost)}
            for c in self.candidates
        ]
        network = {"macs": self.network.macs, **asdict(self.network)}
        return {"about": self.about, "network": network, "parts_ms": self.parts, "candidates": rows}


@dataclass(frozen=True)
class Images:
    """What the networks of a space see, as a recipe asks for it (`oche.training.image_recipes.Seen`)."""

    space: Space

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.space.classes)))

    @property
    def channels(self) -> int:
        return self.space.in_channels

    @property
    def image(self) -> tuple[int, int]:
        return self.space.image


def costs(net: FinalNetwork, genotype: Genotype, space: Space, engine: Engine, batch: int = 1) -> Costs:
    """Counts and measures ``net``, the network of ``genotype``, and the operations of ``space`` at its places."""
    table = Table.fresh(engine, batch)
    x = torch.zeros(1, space.in_channels, *space.image)
    whole = Cost(parameters(net), flops(net.eval(), lambda: net(x)), time_of(net, x, engine, batch))
    net = net.to("cpu", torch.float32)
    pieces = sum(table(p.key, p.module, torch.zeros(1, *p.shape)) for p in parts(net, lambda: net(x)))
    used = {op for cell in genotype.cells.values() for op, *_ in cell.edges}
    names = (*space.candidates, *sorted(used - {*space.candidates}))
    rows = tuple(Candidate(op, place, _of(table, place, op)) for place in _places(space) for op in names)
    return Costs(whole, pieces, rows, table.about)


def _places(space: Space) -> list[Place]:
    """The different ones, in the order of the network."""
    every = (place for rows in survey(space).places.values() for places in rows for place in places)
    return sorted(dict.fromkeys(every), key=lambda p: (-p.size[0], p.channels, -p.stride))


def _of(table: Table, place: Place, operation: str) -> Cost:
    module, x = place.module(operation).eval(), torch.zeros(1, *place.shape)
    count = flops(module, lambda: module(x))
    return Cost(parameters(module), count, table.of(place.key(operation), module, x))
