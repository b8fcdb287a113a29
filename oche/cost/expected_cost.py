"""What every candidate on every edge adds to the cost of a network, and what a mixture of them is expected to cost.

Shapes: E edges of a cell, O candidates; mixtures, masks and prices (E, O).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from oche.core.architecture import NONE, Dag, Genotype, Mix, eligible
from oche.cost.breakdown import survey
from oche.cost.counters import flops, parameters
from oche.spaces.base import Space

Measure = Callable[[str, nn.Module, Tensor], float]
"""(what tells it from other modules, the module, an input of one image) → its cost"""

COUNTS: dict[str, Measure] = {
    "parameters": lambda key, module, x: parameters(module),
    "flops": lambda key, module, x: flops(module, lambda: module(x)),
}


@dataclass(frozen=True)
class Prices:
    """The cost of every network of a space: ``fixed``, plus for each edge that of the candidate that stands there."""

    fixed: float
    """of all that is there whichever cells are found"""
    groups: Mapping[str, Tensor]
    """(E, O) by group, float64: of a candidate on an edge, in all cells of that kind together"""
    dags: Mapping[str, Dag]
    candidates: tuple[str, ...]
    _moved: dict[tuple, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def on(self, group: str, device: torch.device, dtype: torch.dtype) -> Tensor:
        """(E, O) the prices of a group on a device, sent there once: no step waits for them."""
        key = (group, device, dtype)
        if key not in self._moved:
            self._moved[key] = self.groups[group].to(device, dtype)
        return self._moved[key]

    def scaled(self, by: float) -> Prices:
        """All prices times a number."""
        return replace(self, fixed=by * self.fixed, groups={k: by * v for k, v in self.groups.items()}, _moved={})

    def of(self, genotype: Genotype) -> float:
        """The cost of the network of a genotype of the space."""
        total = self.fixed
        for name, dag in self.dags.items():
            row, column = ({x: i for i, x in enumerate(names)} for names in (dag.edges, self.candidates))
            total += sum(float(self.groups[name][row[i, j], column[op]]) for op, i, j in genotype.cells[name].edges)
        return total

    @property
    def bounds(self) -> tuple[float, float]:
        """(least, most) that a network of the space costs."""
        return self._end(1), self._end(-1)

    def _end(self, sign: int) -> float:
        total = self.fixed
        for name, dag in self.dags.items():
            may = [o for o, op in enumerate(self.candidates) if op != NONE or dag.none]
            best = (sign * self.groups[name][:, may]).amin(1)
            total += sign * sum(float(best[list(edges)].sort().values[: dag.keep].sum()) for edges in dag.incoming)
        return total


def prices(space: Space, measure: Measure) -> Prices:
    """The prices of the networks of ``space``, at its own sizes (see `oche.cost.breakdown.sized`)."""
    found, known = survey(space), dict[str, float]()

    def price(key: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> float:
        if key not in known:
            known[key] = measure(key, make(), torch.zeros(1, *shape))
        return known[key]

    def edge(places: Sequence) -> list[float]:
        return [
            sum(price(p.key(op), lambda p=p, op=op: p.module(op), p.shape) for p in places) for op in space.candidates
        ]

    with torch.random.fork_rng(devices=[]):
        groups = {
            name: torch.tensor([edge(places) for places in rows], dtype=torch.float64)
            for name, rows in found.places.items()
        }
    fixed = sum(price(part.key, lambda part=part: part.module, part.shape) for part in found.fixed)
    return Prices(float(fixed), groups, space.groups, space.candidates)


def expected(mix: Mix, alive: Tensor, dag: Dag, candidates: tuple[str, ...], prices: Tensor) -> Tensor:
    """() what the edges of one group cost by ``prices`` (E, O) once the cell is read off, by the weights of the mixture.

    With s the strengths (weight of a candidate times that of its edge), o over the candidates that an edge may settle on::

        every edge of a node is kept    sum over its edges e of  Σ_o s[e, o] c[e, o] / Σ_o s[e, o]
        k of its edges are kept         k · Σ_e Σ_o s[e, o] c[e, o] / Σ_e Σ_o s[e, o]

    At a mixture of one candidate an edge, and no more edges than are kept, this is the cost of that cell.

    Deviation 1 from the sum of weight times cost (SNAS, 1812.09926; ProxylessNAS, 1812.00332 §3.3.1; FBNet, 1812.03443
    §3.3), in whose spaces every edge is kept. Here it would price all edges of a cell that keeps two a node, and "none",
    which wins no edge there, would bring the price down without changing the cell.
    """
    strength, c = mix.strength(), prices.to(mix.ops.device, mix.ops.dtype)
    counts, norm = _reading(alive.numpy().tobytes(), dag, candidates, strength.dtype, strength.device)
    cost, mass = (strength * c * counts).sum(1), (strength * counts).sum(1)
    return (cost / (norm @ mass).clamp_min(1e-12)).sum()  # an edge that carries nothing: 0 / 1e-12


def settled(mix: Mix, alive: Tensor, dag: Dag, candidates: tuple[str, ...], prices: Tensor) -> Tensor:
    """() what the edges of one group cost by ``prices`` (E, O) if the cell were read off now, as `oche.core.architecture.top_k` does.

    It never leaves the device, and has no gradient.
    """
    strength = mix.strength().detach()
    counts, _ = _reading(alive.numpy().tobytes(), dag, candidates, strength.dtype, strength.device)
    best, choice = strength.masked_fill(counts == 0, -torch.inf).max(1)
    cost = prices.to(mix.ops.device, mix.ops.dtype).gather(1, choice[:, None])[:, 0]
    total = []
    for incoming in dag.incoming:
        here = slice(incoming[0], incoming[-1] + 1)  # a node's edges follow one another
        top = best[here].topk(min(dag.keep, len(incoming)))
        total.append(cost[here][top.indices].masked_fill(top.values == -torch.inf, 0).sum())
    return torch.stack(total).sum()


@lru_cache(maxsize=64)
def _reading(
    alive: bytes, dag: Dag, candidates: tuple[str, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What of a mask `expected` needs, on the device: (E, O) what an edge may settle on; (E, E) by the mass of which edges its
    cost is divided."""
    mask = torch.frombuffer(bytearray(alive), dtype=torch.bool).view(len(dag), len(candidates))
    usable = eligible(mask, dag, candidates)
    norm = torch.zeros(len(dag), len(dag), dtype=dtype)
    for incoming in dag.incoming:
        living = [e for e in incoming if usable[e].any()]
        for e in living:
            among = [e] if len(living) <= dag.keep else living
            norm[e, among] = 1 / min(len(among), dag.keep)
    return usable.to(device, dtype), norm.to(device)
