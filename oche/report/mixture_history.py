"""The mixture weights that a search recorded, one history for each cell type.

Shapes: E edges of a cell, O candidate operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oche.analysis.decisions import CellDecisions, cell_decisions
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.report.format_numbers import finite_float


@dataclass(frozen=True)
class MixtureHistory:
    """The mixture weights of one cell type over epochs."""

    name: str
    edges: tuple[tuple[int, int], ...]
    """(source, target) of the E edges"""
    candidates: tuple[str, ...]
    """names of the O operations"""
    inputs: int
    """number of input nodes of the cell"""
    history: tuple[tuple[int, list[list[float]]], ...]
    """(epoch, weights (E, O)), by rising epoch"""
    scaled: bool
    """whether the weights are multiplied by the weight of their edge, as the decisions rank them"""

    def decisions(self, genotype: Genotype | None, epoch: int | None = None) -> CellDecisions | None:
        """Tell which choices of ``genotype`` the weights up to ``epoch`` (None: the last) decide; None without its cell."""
        cell = genotype.cells.get(self.name) if genotype else None
        if cell is None:
            return None
        weights = [w for e, w in self.history if epoch is None or e <= epoch]
        return cell_decisions(self.name, cell, self.edges, self.candidates, weights)


def find_decisions(
    mixtures: Sequence[MixtureHistory], genotype: Genotype | None, epoch: int | None = None
) -> dict[str, CellDecisions]:
    """Return the decisions of each cell type of ``genotype`` that ``mixtures`` have weights of."""
    found = {mixture.name: mixture.decisions(genotype, epoch) for mixture in mixtures}
    return {name: decisions for name, decisions in found.items() if decisions is not None}


def parse_genotype(text: str) -> Genotype | None:
    """Parse a genotype; None where ``text`` is none."""
    try:
        return Genotype.parse(text)
    except OcheError:
        return None


def read_mixtures(space: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> tuple[MixtureHistory, ...]:
    """Return the history of every cell type that ``records`` have weights of.

    ``space`` is the content of space.json. Weights of another shape than the last (from an earlier stage of a search that
    drops candidates) are left out.
    """
    names = dict.fromkeys(str(name) for r in records for name in r["arch"])
    described = space.get("groups")
    described = described if isinstance(described, dict) else {}
    mixtures = []
    for name in names:
        history, scaled = [], False
        for record in records:
            weights, has_edge_weights = _weights(record["arch"].get(name))
            if weights:
                history.append((record["epoch"], weights))
                scaled |= has_edge_weights
        if history:
            mixtures.append(_mixture(name, described.get(name), history, scaled))
    return tuple(mixtures)


def _mixture(name: str, described: Any, history: list[tuple[int, list[list[float]]]], scaled: bool) -> MixtureHistory:
    """Join the weights with the edges and candidates of space.json; where those are missing or do not fit, guess them."""
    described = described if isinstance(described, dict) else {}
    shape = (len(history[-1][1]), len(history[-1][1][0]))
    try:
        edges = tuple((int(i), int(j)) for i, j in described["edges"])
    except (KeyError, TypeError, ValueError):
        edges = ()
    candidates = tuple(str(c) for c in described.get("candidates") or ())
    if len(edges) != shape[0]:
        edges = _guess_edges(shape[0])
    if len(candidates) != shape[1]:
        candidates = tuple(f"operation {o}" for o in range(shape[1]))
    inputs = int(finite_float(described.get("inputs")) or min(j for _, j in edges))
    same_shape = tuple((epoch, w) for epoch, w in history if (len(w), len(w[0])) == shape)
    return MixtureHistory(name, edges, candidates, inputs, same_shape, scaled)


def _guess_edges(count: int) -> tuple[tuple[int, int], ...]:
    """Return the edges of a cell with two inputs or one whose nodes read all nodes before them; else a chain of edges."""
    for inputs in (2, 1):
        edges = [(i, j) for j in range(inputs, 40) for i in range(j)][:count]
        if edges[-1][0] + 1 == edges[-1][1]:  # the last node has all its edges
            return tuple(edges)
    return tuple((e, e + 1) for e in range(count))


def _weights(arch: Any) -> tuple[list[list[float]] | None, bool]:
    """Return ((E, O) weights or None, whether they are multiplied by edge weights) of one cell type in a record."""
    rows = arch.get("weights") if isinstance(arch, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        return None, False
    values = [[finite_float(v) for v in row] for row in rows]
    if len({len(row) for row in values}) > 1 or any(v is None for row in values for v in row):
        return None, False
    edges = arch.get("edges")
    if isinstance(edges, list) and len(edges) == len(rows) and all(finite_float(b) is not None for b in edges):
        return [[v * b for v in row] for row, b in zip(values, edges, strict=True)], True  # pyright: ignore
    return values, False  # pyright: ignore[reportReturnType]
