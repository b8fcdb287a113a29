"""The operations of black-box strategies on cells of NAS-Bench-201."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np

from oche.blackbox.graph_network import graph_of
from oche.blackbox.moves import Encoding, Moves
from oche.core.architecture import NONE, Cell, Genotype
from oche.core.errors import OcheError
from oche.core.nasbench201 import CELL, EDGES, canonical, parse, to_text


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
            if kind == "graph":
                self._codes[row, kind] = graph_of(x, 1, self.candidates)
            else:
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
