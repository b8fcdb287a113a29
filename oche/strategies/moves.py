"""The operations of a space on genotypes, for black-box strategies: draw, mutate, list neighbours, name, encode.

Random numbers come from ``random.Random``, so that a strategy of thousands of queries is quick and its state is a seed.
A genotype is built from decisions, one integer each. A policy over a space draws decisions.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations, pairwise, product
from typing import Literal

import numpy as np

from oche.core.architecture import NONE, Cell, Dag, Genotype
from oche.core.errors import OcheError
from oche.core.genotype_text import write_cells
from oche.core.nasbench201 import CELL, EDGES, canonical, parse, to_text
from oche.spaces.base import Space
from oche.spaces.darts_cnn import ConvSpace
from oche.spaces.nasbench201 import NB201Space

Encoding = Literal["one-hot", "paths"]


class Moves(ABC):
    """The operations of one space on genotypes.

    ``decisions``: the number of values of each decision that builds a genotype. ``size``: the number of genotypes, None if
    there are too many to list.
    """

    decisions: tuple[int, ...]
    size: int | None = None

    @abstractmethod
    def build(self, values: Sequence[int]) -> Genotype:
        """Return the genotype of one value for each of ``decisions``."""

    def random(self, g: random.Random) -> Genotype:
        """Draw a genotype uniformly."""
        return self.build([g.randrange(n) for n in self.decisions])

    @abstractmethod
    def mutate(self, x: Genotype, g: random.Random) -> Genotype:
        """Return ``x`` with one change: an edge gets another operation or, where nodes choose their inputs, another source."""

    @abstractmethod
    def neighbours(self, x: Genotype) -> list[Genotype]:
        """Return all genotypes that one mutation of ``x`` may give, each once."""

    @abstractmethod
    def key(self, x: Genotype) -> str:
        """Return a text that is equal exactly for genotypes that are evaluated as one."""

    def class_key(self, x: Genotype) -> str:
        """Return a text that is equal for genotypes that compute the same, as far as the space can tell."""
        return self.key(x)

    @abstractmethod
    def encode(self, x: Genotype, kind: Encoding) -> np.ndarray:
        """Return ``x`` as a vector (F,) of zeros and ones. Raises `OcheError` if the space has no such encoding."""

    @abstractmethod
    def smallest(self) -> list[Genotype]:
        """Return the genotypes of complexity 1, for progressive search."""

    @abstractmethod
    def grow(self, x: Genotype) -> list[Genotype]:
        """Return the genotypes with one more part than ``x``; none if ``x`` is complete."""

    def everything(self) -> list[Genotype]:
        """Return all genotypes. Raises `OcheError` if there are too many."""
        if self.size is None:
            raise OcheError("this space has too many architectures to list them; use a strategy that draws them")
        return [self.build(values) for values in product(*(range(n) for n in self.decisions))]

    @property
    def default_encoding(self) -> Encoding:
        """The encoding that predictors use unless told otherwise."""
        return "one-hot"


class BenchmarkMoves(Moves):
    """The operations on cells of NAS-Bench-201: six edges, one of ``candidates`` on each.

    The key of a cell is its own text. Isomorphic cells have keys of their own, because the benchmark trained each of them.
    """

    def __init__(self, candidates: tuple[str, ...]) -> None:
        self.candidates = candidates
        self.decisions = (len(candidates),) * len(EDGES)
        self.size = len(candidates) ** len(EDGES)
        self._number = {op: o for o, op in enumerate(candidates)}
        self._built: dict[tuple[int, ...], Genotype] = {}
        self._values: dict[int, tuple[int, ...]] = {}  # by the identity of a genotype that was built here
        self._keys: dict[tuple[int, ...], str] = {}
        self._codes: dict[tuple[tuple[int, ...], str], np.ndarray] = {}

    def build(self, values: Sequence[int]) -> Genotype:
        row = tuple(values)
        if (made := self._built.get(row)) is None:
            edges = tuple((self.candidates[o], *edge) for o, edge in zip(row, EDGES, strict=True))
            made = self._built[row] = Genotype({CELL: Cell(edges, (3,))})
            self._values[id(made)] = row
        return made

    def values(self, x: Genotype) -> tuple[int, ...]:
        """Return the decisions that build ``x``. Raises `OcheError` for a cell that is not in the space."""
        if (row := self._values.get(id(x))) is not None:
            return row
        ops = [op for op, _, _ in parse(x).cells[CELL].edges]
        if foreign := [op for op in ops if op not in self._number]:
            raise OcheError(f"the cell has {foreign[0]!r}, and this space has {', '.join(self.candidates)}")
        return tuple(self._number[op] for op in ops)

    def mutate(self, x: Genotype, g: random.Random) -> Genotype:
        row = [*self.values(x)]
        if len(self.candidates) > 1:
            e = g.randrange(len(row))
            row[e] = (row[e] + 1 + g.randrange(len(self.candidates) - 1)) % len(self.candidates)
        return self.build(row)

    def neighbours(self, x: Genotype) -> list[Genotype]:
        row = self.values(x)
        return [
            self.build((*row[:e], o, *row[e + 1 :]))
            for e in range(len(row))
            for o in range(len(self.candidates))
            if o != row[e]
        ]

    def key(self, x: Genotype) -> str:
        row = self.values(x)
        if row not in self._keys:
            self._keys[row] = to_text(x)
        return self._keys[row]

    def class_key(self, x: Genotype) -> str:
        """Return `oche.core.nasbench201.canonical`, which is equal for isomorphic cells."""
        return canonical(x)

    def encode(self, x: Genotype, kind: Encoding) -> np.ndarray:
        """``one-hot``: a bit for each edge and operation. ``paths`` (1910.11858 §3): a bit for each sequence of operations on a
        path from input to output, for paths without "none"; 5 + 25 + 125 = 155 bits with the benchmark's five operations.
        """
        row = self.values(x)
        if (row, kind) not in self._codes:
            self._codes[row, kind] = self._one_hot(row) if kind == "one-hot" else self._path_bits(row)
        return self._codes[row, kind]

    def _one_hot(self, row: tuple[int, ...]) -> np.ndarray:
        code = np.zeros((len(row), len(self.candidates)), np.float32)
        code[np.arange(len(row)), row] = 1
        return code.ravel()

    def _path_bits(self, row: tuple[int, ...]) -> np.ndarray:
        o, none = len(self.candidates), self._number.get(NONE, -1)
        code = np.zeros(o + o**2 + o**3, np.float32)
        for path in _PATHS:
            ops = [row[e] for e in path]
            if none not in ops:
                place = sum(op * o**i for i, op in enumerate(reversed(ops)))
                code[sum(o**k for k in range(1, len(ops))) + place] = 1
        return code

    @property
    def default_encoding(self) -> Encoding:
        return "paths"

    def smallest(self) -> list[Genotype]:
        """Return the cells with one edge that is not "none"."""
        return self.grow(self.build([self._none()] * len(EDGES)))

    def grow(self, x: Genotype) -> list[Genotype]:
        """Return ``x`` with an operation on one more of its edges with "none"."""
        row, none = self.values(x), self._none()
        ops = [o for o in range(len(self.candidates)) if o != none]
        free = [e for e, o in enumerate(row) if o == none]
        return [self.build((*row[:e], o, *row[e + 1 :])) for e in free for o in ops]

    def _none(self) -> int:
        if NONE not in self._number:
            raise OcheError(
                f"cells grow from edges with 'none', and the candidates {', '.join(self.candidates)} lack it"
            )
        return self._number[NONE]


_PATHS = tuple(
    path
    for n in (1, 2, 3)
    for path in product(range(len(EDGES)), repeat=n)
    if EDGES[path[0]][0] == 0 and EDGES[path[-1]][1] == 3 and all(EDGES[a][1] == EDGES[b][0] for a, b in pairwise(path))
)  # the four paths from input to output, as indices of edges


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
        if kind != "one-hot":
            raise OcheError(f"the DARTS space has no encoding {kind!r}; use one-hot")
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


def moves_of(space: Space) -> Moves:
    """Return the operations of ``space`` on genotypes. Raises `OcheError` for a space without them."""
    if isinstance(space, NB201Space):
        return BenchmarkMoves(space.candidates)
    if isinstance(space, ConvSpace):
        return ConvMoves(space.groups, space.candidates)
    raise OcheError(
        f"strategies know the cells of nb201, darts and seed, and not those of {type(space).__name__}; use --space nb201"
    )
