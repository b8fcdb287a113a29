"""The mixture weights that a search recorded, cell type by cell type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oche.core.architecture import Genotype
from oche.core.errors import OcheError


@dataclass(frozen=True)
class Group:
    """The mixture weights of one cell type over epochs. ``history`` holds (epoch, weights (E, O))."""

    name: str
    edges: tuple[tuple[int, int], ...]
    candidates: tuple[str, ...]
    inputs: int
    history: tuple[tuple[int, list[list[float]]], ...]
    scaled: bool  # weights are multiplied by the edge's own weight, as decisions rank them


def number(value: object) -> float | None:
    """``value`` as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def parse(text: str) -> Genotype | None:
    """The genotype that ``text`` writes, or None."""
    try:
        return Genotype.parse(text)
    except OcheError:
        return None


def read_groups(space: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> tuple[Group, ...]:
    """Cell types with the weights recorded for them; records of another shape (an earlier stage) are left out."""
    names = dict.fromkeys(str(name) for r in records for name in r["arch"])
    described = space.get("groups")
    described = described if isinstance(described, dict) else {}
    groups = []
    for name in names:
        history, scaled = [], False
        for record in records:
            weights, by_edge = _weights(record["arch"].get(name))
            if weights:
                history.append((record["epoch"], weights))
                scaled |= by_edge
        if history:
            groups.append(_group(name, described.get(name), history, scaled))
    return tuple(groups)


def _group(name: str, described: Any, history: list[tuple[int, list[list[float]]]], scaled: bool) -> Group:
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
    inputs = int(number(described.get("inputs")) or min(j for _, j in edges))
    same = tuple((epoch, w) for epoch, w in history if (len(w), len(w[0])) == shape)
    return Group(name, edges, candidates, inputs, same, scaled)


def _guess_edges(count: int) -> tuple[tuple[int, int], ...]:
    """Edges of a cell with two inputs or one, every node reading all before it; else a plain numbering."""
    for inputs in (2, 1):
        edges = [(i, j) for j in range(inputs, 40) for i in range(j)][:count]
        if edges[-1][0] + 1 == edges[-1][1]:
            return tuple(edges)
    return tuple((e, e + 1) for e in range(count))


def _weights(arch: Any) -> tuple[list[list[float]] | None, bool]:
    """((E, O) weights or None, whether edge weights were multiplied in)."""
    rows = arch.get("weights") if isinstance(arch, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        return None, False
    values = [[number(v) for v in row] for row in rows]
    if len({len(row) for row in values}) > 1 or any(v is None for row in values for v in row):
        return None, False
    edges = arch.get("edges")
    if isinstance(edges, list) and len(edges) == len(rows) and all(number(b) is not None for b in edges):
        return [[v * b for v in row] for row, b in zip(values, edges, strict=True)], True  # pyright: ignore
    return values, False  # pyright: ignore[reportReturnType]
