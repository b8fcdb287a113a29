"""Cells beside each other, with what only one of them has marked: by a sign and by a thick arrow, not by colour alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from oche.core.architecture import Cell, Genotype, cell_title
from oche.report.drawings.cell import MARK
from oche.report.figures import inline_cell
from oche.report.html.page import Fold, Item, Prose, Row, Section
from oche.report.run_page import side_by_side

_CELLS = (
    f"Each cell beside the first run's. {MARK} and a thick arrow mark edges (an operation between two nodes) that the other cell "
    "of the pair has not; what is not marked is in both."
)
_OPEN = 3  # pairs that are shown without a click


def marked(cell: Cell, other: Cell) -> tuple[Cell, str]:
    """``cell`` with `MARK` before the operations that ``other`` has not on the same edge; and in words which they are.

    Edges are compared by operation and by the numbers of their nodes: cells that differ in the order of their nodes alone differ.
    """
    left, edges, only = Counter(other.edges), [], []
    for op, source, target in cell.edges:
        if left[op, source, target]:
            left[op, source, target] -= 1
            edges.append((op, source, target))
        else:
            edges.append((f"{MARK} {op}", source, target))
            only.append(f"{op} {source}→{target}")
    words = f"{len(only)} of {len(edges)} edges only here: {', '.join(only)}" if only else "the same edges"
    if {*cell.concat} != {*other.concat}:
        words += f"; its output is made of nodes {', '.join(map(str, sorted(cell.concat)))}"
    return Cell(tuple(edges), cell.concat), words


def compared_cells(known: Sequence[tuple[str, Genotype]]) -> list[Section]:
    """The section that draws the cells of every (name, genotype) beside those of the first."""
    if not known:
        return []
    (first, reference), *others = known
    if not others:
        figures = [inline_cell(cell, f"{first}, {cell_title(name)}") for name, cell in reference.cells.items()]
        return [Section("Cells", side_by_side(figures), "cells")]
    items = []
    for i, (name, genotype) in enumerate(others):
        summary = f"{name} beside {first}: {_apart(genotype, reference)}"
        items.append(Fold(summary, _pairs(name, genotype, first, reference), i < _OPEN))
    return [Section("Cells", [Prose(_CELLS), *items], "cells")]


def _apart(genotype: Genotype, reference: Genotype) -> str:
    """How many edges of ``genotype`` the reference has not, cell by cell."""
    parts = []
    for name, cell in genotype.cells.items():
        if name in reference.cells:
            other, _ = marked(cell, reference.cells[name])
            only = sum(op.startswith(MARK) for op, _, _ in other.edges)
            parts.append(
                f"{cell_title(name)} {only} of {len(cell.edges)} edges differ"
                if only
                else f"{cell_title(name)} the same"
            )
    return ", ".join(parts) or "other cells"


def _pairs(name: str, genotype: Genotype, first: str, reference: Genotype) -> list[Item]:
    items: list[Item] = []
    for kind in dict.fromkeys([*reference.cells, *genotype.cells]):
        one, other = reference.cells.get(kind), genotype.cells.get(kind)
        figures = []
        for who, own, its_other in ((first, one, other), (name, other, one)):
            if own is not None:
                drawn, said = marked(own, its_other) if its_other is not None else (own, "the other has no such cell")
                figures.append(inline_cell(drawn, f"{who}, {cell_title(kind)}: {said}"))
        items.append(Row([replace(figure, wide=True) for figure in figures]))
    return items
