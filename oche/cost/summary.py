"""The result of `oche cost`: a whole network, its parts, and every candidate at every place of the network.

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from oche.core.architecture import Genotype
from oche.cost.breakdown import Place, parts, space_parts
from oche.cost.latency_table import LatencyTable, measure_latency
from oche.cost.module_cost import Timing, flops, parameters
from oche.devices.engine import Engine
from oche.networks.build import FinalNetwork
from oche.spaces.base import Space


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass of one image; the time is that of a whole batch."""

    parameters: int
    flops: int
    """two per multiply-add of convolutions and linear layers; other operations are not counted"""
    time: Timing

    @property
    def macs(self) -> int:
        """The number of multiply-adds."""
        return self.flops // 2


@dataclass(frozen=True)
class CandidateCost:
    """The cost of an operation at one place."""

    operation: str
    place: Place
    cost: Cost


@dataclass(frozen=True)
class CostSummary:
    """The cost of a network, and of each candidate in it."""

    network: Cost
    parts: float
    """milliseconds: the sum of its parts, each measured alone"""
    candidates: tuple[CandidateCost, ...]
    about: dict[str, Any]
    """the hardware, see `oche.cost.latency_table.describe_hardware`"""

    def plain(self) -> dict[str, Any]:
        """Return the summary as plain values, for JSON."""
        rows = [
            {"operation": c.operation, **asdict(c.place), "macs": c.cost.macs, **asdict(c.cost)}
            for c in self.candidates
        ]
        network = {"macs": self.network.macs, **asdict(self.network)}
        return {"about": self.about, "network": network, "parts_ms": self.parts, "candidates": rows}


@dataclass(frozen=True)
class InputShape:
    """The images that the networks of a space take, as a recipe asks for them (`oche.training.image_recipes.Seen`)."""

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


def summarise_costs(net: FinalNetwork, genotype: Genotype, space: Space, engine: Engine, batch: int = 1) -> CostSummary:
    """Count and measure ``net``, the network of ``genotype``, and the operations of ``space`` at its places."""
    table = LatencyTable.fresh(engine, batch)
    x = torch.zeros(1, space.in_channels, *space.image)
    whole = Cost(parameters(net), flops(net.eval(), lambda: net(x)), measure_latency(net, x, engine, batch))
    net = net.to("cpu", torch.float32)
    pieces = sum(table(p.key, p.module, torch.zeros(1, *p.shape)) for p in parts(net, lambda: net(x)))
    used = space.searched_operations(genotype)
    names = (*space.candidates, *sorted(used - {*space.candidates}))
    rows = tuple(CandidateCost(op, place, _of(table, space, place, op)) for place in _places(space) for op in names)
    return CostSummary(whole, pieces, rows, table.about)


def _places(space: Space) -> list[Place]:
    """Return the distinct places of the networks of ``space``, in the order of the network."""
    all_places = (place for rows in space_parts(space).places.values() for places in rows for place in places)
    return sorted(dict.fromkeys(all_places), key=lambda p: (-p.size[0], p.channels, -p.stride))


def _of(table: LatencyTable, space: Space, place: Place, operation: str) -> Cost:
    module, x = space.final_operation(operation, place.edge).eval(), torch.zeros(1, *place.shape)
    count = flops(module, lambda: module(x))
    return Cost(parameters(module), count, table.of(place.key(operation), module, x))
