"""The cost of each candidate on each edge, and the expected cost of a mixture.

Shapes: E edges of a cell, O candidates; mixtures, masks and costs (E, O).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, Genotype, Mix, eligible
from oche.core.blocks import choice_name
from oche.cost.breakdown import space_parts
from oche.cost.module_cost import flops, parameters
from oche.spaces.base import Space

Measure = Callable[[str, nn.Module, Tensor], float]
"""(key of a module, the module, an input of one image) → the cost of the module"""

COUNTS: dict[str, Measure] = {
    "parameters": lambda key, module, x: parameters(module),
    "flops": lambda key, module, x: flops(module, lambda: module(x)),
}


@dataclass(frozen=True)
class CostModel:
    """The cost of every network of a space: ``fixed``, plus the cost of the chosen candidate on every edge that is kept."""

    fixed: float
    """cost of the parts that every network has"""
    groups: Mapping[str, Tensor]
    """by group: (E, O) float64, the cost of each candidate on each edge, summed over all cells of that kind"""
    dags: Mapping[str, Dag]
    candidates: tuple[str, ...]
    alive: Mapping[str, Tensor]
    """by group: (E, O) bool, the candidates that each edge of the space has"""
    _on_device: dict[tuple, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def on(self, group: str, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the costs (E, O) of a group on a device. They are copied once, so no step waits for them."""
        key = (group, device, dtype)
        if key not in self._on_device:
            self._on_device[key] = self.groups[group].to(device, dtype)
        return self._on_device[key]

    def scaled(self, by: float) -> CostModel:
        """Return this model with all costs times ``by``."""
        return replace(self, fixed=by * self.fixed, groups={k: by * v for k, v in self.groups.items()}, _on_device={})

    def of(self, genotype: Genotype) -> float:
        """Return the cost of the network of ``genotype``."""
        total = self.fixed
        for name, dag in self.dags.items():
            row, column = ({x: i for i, x in enumerate(names)} for names in (dag.edges, self.candidates))
            searched = [(op, (i, j)) for op, i, j in genotype.cells[name].edges if (i, j) in row]
            total += sum(float(self.groups[name][row[edge], column[choice_name(op)]]) for op, edge in searched)
        return total

    @property
    def bounds(self) -> tuple[float, float]:
        """(least, greatest) cost of a network of the space."""
        return self._extreme(1), self._extreme(-1)

    def _extreme(self, sign: int) -> float:
        """Return the least cost (``sign`` 1) or the greatest (−1)."""
        total = self.fixed
        for name, dag in self.dags.items():
            may = eligible(self.alive[name], dag, self.candidates)
            best = (sign * self.groups[name]).masked_fill(~may, torch.inf).amin(1)
            total += sign * sum(float(best[list(edges)].sort().values[: dag.keep].sum()) for edges in dag.incoming)
        return total


def cost_model(space: Space, measure: Measure) -> CostModel:
    """Return the costs of the networks of ``space``, at its own sizes, measured by ``measure``."""
    found, known = space_parts(space), dict[str, float]()

    def price(key: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> float:
        if key not in known:
            known[key] = measure(key, make(), torch.zeros(1, *shape))
        return known[key]

    def edge(places: Sequence) -> list[float]:
        return [
            sum(price(p.key(op), lambda p=p, op=op: space.final_operation(op, p.edge), p.shape) for p in places)
            for op in space.candidates
        ]

    with torch.random.fork_rng(devices=[]):
        groups = {
            name: torch.tensor([edge(places) for places in rows], dtype=torch.float64)
            for name, rows in found.places.items()
        }
    fixed = sum(price(part.key, lambda part=part: part.module, part.shape) for part in found.fixed)
    alive = {name: space.alive(name) for name in groups}
    return CostModel(float(fixed), groups, space.groups, space.candidates, alive)


def expected_cost(mix: Mix, alive: Tensor, dag: Dag, candidates: tuple[str, ...], costs: Tensor) -> Tensor:
    """Return the expected cost of the edges of one group after discretisation, a scalar; ``costs`` (E, O) are those
    of the candidates.

    With s the strengths (candidate weight times edge weight) and o over the candidates that an edge may choose::

        if a node keeps all its edges    Σ over its edges e of  Σ_o s[e, o] c[e, o] / Σ_o s[e, o]
        if it keeps k of them            k · Σ_e Σ_o s[e, o] c[e, o] / Σ_e Σ_o s[e, o]

    If a mixture has one candidate per edge, and no more edges than are kept, this is the cost of that cell.

    Deviation 1 from the sum of weight times cost (SNAS, 1812.09926; ProxylessNAS, 1812.00332 §3.3.1; FBNet,
    1812.03443 §3.3), in whose spaces every edge is kept. Here that sum would count all edges of a cell that keeps two
    per node, and "none", which is never chosen here, would lower the cost without changing the cell.
    """
    strength, c = mix.strength(), costs.to(mix.ops.device, mix.ops.dtype)
    usable, competing = _usable_and_competing(alive.numpy().tobytes(), dag, candidates, strength.dtype, strength.device)
    cost, mass = (strength * c * usable).sum(1), (strength * usable).sum(1)
    return (cost / (competing @ mass).clamp_min(1e-12)).sum()  # 0 / 1e-12 for an edge without candidates


def discrete_cost(mix: Mix, alive: Tensor, dag: Dag, candidates: tuple[str, ...], costs: Tensor) -> Tensor:
    """Return the cost of the edges of one group if the cell were discretised now, as `oche.core.architecture.top_k`
    does; a scalar.

    ``costs`` (E, O) are those of the candidates. The result stays on the device and has no gradient.
    """
    strength = mix.strength().detach()
    usable, _ = _usable_and_competing(alive.numpy().tobytes(), dag, candidates, strength.dtype, strength.device)
    best, choice = strength.masked_fill(usable == 0, -torch.inf).max(1)
    cost = costs.to(mix.ops.device, mix.ops.dtype).gather(1, choice[:, None])[:, 0]
    total = []
    for incoming in dag.incoming:
        here = slice(incoming[0], incoming[-1] + 1)  # the edges into a node are consecutive
        top = best[here].topk(min(dag.keep, len(incoming)))
        total.append(cost[here][top.indices].masked_fill(top.values == -torch.inf, 0).sum())
    return torch.stack(total).sum()


@lru_cache(maxsize=64)
def _usable_and_competing(
    alive: bytes, dag: Dag, candidates: tuple[str, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return two tensors for `expected_cost`: the (E, O) mask of candidates an edge may still choose, and an (E, E)
    matrix whose row e averages over the edges that compete with e for a place at their node.
    """
    mask = torch.frombuffer(bytearray(alive), dtype=torch.bool).view(len(dag), len(candidates))
    usable = eligible(mask, dag, candidates)
    competing = torch.zeros(len(dag), len(dag), dtype=dtype)
    for incoming in dag.incoming:
        living = [e for e in incoming if usable[e].any()]
        for e in living:
            rivals = [e] if len(living) <= dag.keep else living
            competing[e, rivals] = 1 / min(len(rivals), dag.keep)
    return usable.to(device, dtype), competing.to(device)
