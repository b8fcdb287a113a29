"""The operations of black-box strategies on cells of the DARTS space."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np

from oche.blackbox.graph_network import graph_of
from oche.blackbox.moves import Encoding, Moves
from oche.core.architecture import NONE, Cell, Dag, Genotype
from oche.core.errors import OcheError
from oche.core.genotype_text import write_cells


class ConvMoves(Moves):
    """The operations on cells of the DARTS space: every node has ``keep`` distinct sources and an operation for each.

    Decisions: for each cell and node the set of sources, then an operation for each of them.
    """

    def __init__(self, groups: dict[str, Dag], candidates: tuple[str, ...]) -> None:
        self.groups = groups
        self.candidates = tuple(op for op in candidates if op != NONE)
        self._sources: list[list[tuple[int, ...]]] = []  # the sets of sources of each node of each cell
        decisions: list[int] = []
        for dag in groups.values():
            for node in range(dag.inputs, dag.inputs + dag.nodes):
                sets = [*combinations(range(node), min(dag.keep, node))]
                self._sources.append(sets)
                decisions += [len(sets), *[len(self.candidates)] * len(sets[0])]
        self.decisions = tuple(decisions)

    def build(self, values: Sequence[int]) -> Genotype:
        rest, sets, cells = iter(values), iter(self._sources), {}
        for name, dag in self.groups.items():
            edges = []
            for node in range(dag.inputs, dag.inputs + dag.nodes):
                edges += [(self.candidates[next(rest)], source, node) for source in next(sets)[next(rest)]]
            cells[name] = self._cell(edges, dag)
        return Genotype(cells)

    @staticmethod
    def _cell(edges: Sequence[tuple[str, int, int]], dag: Dag) -> Cell:
        last = max(target for _, _, target in edges)
        ordered = sorted(edges, key=lambda edge: (edge[2], edge[1]))
        return Cell(tuple(ordered), tuple(range(dag.inputs, last + 1)))

    def mutate(self, x: Genotype, g: random.Random) -> Genotype:
        """Return ``x`` with one mutation (1802.01548 §3.2): of a cell, an edge and the kind, all drawn uniformly.

        The kinds are another operation and another source ("hidden state"). There is no identity mutation.
        """
        name = g.choice([*self.groups])
        edges = [*x.cells[name].edges]
        e = g.randrange(len(edges))
        changes = [kind for kind in self._changes(edges, e) if kind]
        if not changes:
            return x
        edges[e] = g.choice(g.choice(changes))
        return self._with(x, name, edges)

    def _changes(self, edges: list[tuple[str, int, int]], e: int) -> tuple[list[tuple[str, int, int]], ...]:
        """Return the other values of edge ``e``: those with another operation, and those with another source."""
        op, source, target = edges[e]
        used = {s for _, s, t in edges if t == target}
        ops = [(other, source, target) for other in self.candidates if other != op]
        return ops, [(op, other, target) for other in range(target) if other not in used]

    def _with(self, x: Genotype, name: str, edges: list[tuple[str, int, int]]) -> Genotype:
        return Genotype({**x.cells, name: self._cell(edges, self.groups[name])})

    def neighbours(self, x: Genotype) -> list[Genotype]:
        found: dict[str, Genotype] = {}
        for name in self.groups:
            edges = [*x.cells[name].edges]
            for e in range(len(edges)):
                for value in [value for kind in self._changes(edges, e) for value in kind]:
                    made = self._with(x, name, [*edges[:e], value, *edges[e + 1 :]])
                    found[self.key(made)] = made
        return [*found.values()]

    def key(self, x: Genotype) -> str:
        """Return the text of ``x`` with edges in one order. The order of writing makes no difference, as in `Genotype`."""
        return write_cells({name: x.cells[name].canonical for name in sorted(x.cells)})

    def encode(self, x: Genotype, kind: Encoding) -> np.ndarray:
        """``one-hot``: for each cell and edge of its graph a bit for each operation; all 0 where the edge is absent."""
        if kind == "graph":
            return graph_of(x, next(iter(self.groups.values())).inputs, self.candidates)
        if kind != "one-hot":
            raise OcheError(f"the DARTS space has no encoding {kind!r}; use one-hot or graph")
        parts = []
        for name, dag in self.groups.items():
            code = np.zeros((len(dag), len(self.candidates)), np.float32)
            place = {edge: e for e, edge in enumerate(dag.edges)}
            for op, source, target in x.cells[name].edges:
                code[place[source, target], self.candidates.index(op)] = 1
            parts.append(code.ravel())
        return np.concatenate(parts)

    def smallest(self) -> list[Genotype]:
        """Return the genotypes of one node, with the same cell for both strides (1712.00559 §3)."""
        dag = next(iter(self.groups.values()))
        return [self._same(block) for block in self._blocks(dag, dag.inputs)]

    def grow(self, x: Genotype) -> list[Genotype]:
        """Return ``x`` with one more node in its cell, which stays the same for both strides."""
        dag = next(iter(self.groups.values()))
        edges = next(iter(x.cells.values())).edges
        node = max(target for _, _, target in edges) + 1
        if node >= dag.inputs + dag.nodes:
            return []
        return [self._same([*edges, *block]) for block in self._blocks(dag, node)]

    def _blocks(self, dag: Dag, node: int) -> list[list[tuple[str, int, int]]]:
        """Return all sets of edges into ``node``."""
        return [
            [(op, source, node) for op, source in zip(ops, sources, strict=True)]
            for sources in combinations(range(node), min(dag.keep, node))
            for ops in product(self.candidates, repeat=len(sources))
        ]

    def _same(self, edges: Sequence[tuple[str, int, int]]) -> Genotype:
        return Genotype({name: self._cell(edges, dag) for name, dag in self.groups.items()})
