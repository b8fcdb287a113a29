"""A small space of NAS-Bench-201's cells with scores made by a formula, an evaluator of them, and the real table."""

from __future__ import annotations

import zlib

import pytest

from oche.blackbox.base import Evaluator, Report
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.nasbench201 import EDGES, canonical
from paths import SHARED

REAL = SHARED / "nasbench201_accuracies.parquet"
real = pytest.mark.skipif(not REAL.exists(), reason=f"needs the table at {REAL}")

OPS = ("none", "skip_connect", "nor_conv_3x3")
WORTH = {"none": 0.0, "skip_connect": 0.03, "nor_conv_3x3": 0.05}


def moves(ops=OPS) -> BenchmarkMoves:
    """The operations on 729 cells."""
    return BenchmarkMoves(ops)


def score(cell) -> float:
    """A score that grows with the operations of a cell, with a distinct small part for each cell."""
    edges = cell.cells["cell"].edges
    rough = zlib.crc32(str(cell).encode()) / 2**32
    return sum(WORTH[op] * (1 + EDGES.index((i, j))) / 3 for op, i, j in edges) + 0.05 * rough


def class_score(cell) -> float:
    """A score that is equal for isomorphic cells."""
    return zlib.crc32(canonical(cell).encode()) / 2**32


class Made(Evaluator):
    """Answers with `score`, times the fidelity. ``asked``: the keys that were evaluated."""

    unit = "queries"

    def __init__(self, of=score) -> None:
        self.of, self.asked = of, []

    def __call__(self, genotype, fidelity, seed):
        self.asked.append((str(genotype), fidelity))
        return Report(fidelity * self.of(genotype), 1.0, fidelity)


def played(proposals, count, of=score):
    """Ask and tell ``count`` times; return what was asked."""
    asked = []
    for _ in range(count):
        ask = proposals.ask()
        asked.append(ask.genotype)
        proposals.tell(ask, Report(of(ask.genotype), 1.0))
    return asked
