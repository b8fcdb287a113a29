"""Cells of two runs beside each other; edges that only one of them has are marked by a sign and a thick arrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from oche.core.architecture import Cell, Genotype, cell_title
from oche.report.drawings.cell import MARK
from oche.report.figures import inline_cell, side_by_side
from oche.report.html.page import Fold, Item, Prose, Row, Section

_CELLS = (
    f"Each cell beside that of the first run. {MARK} and a thick arrow mark edges (an operation between two nodes) that the "
    "other cell of the pair does not have; unmarked edges are in both."
)
_OPEN = 3  # pairs that are shown without a click


def mark_differences(cell: Cell, other: Cell) -> tuple[Cell, str]:
    """Return ``cell`` with `MARK` before the operation of each edge that ``other`` lacks, and a text that lists these edges.

    Edges are the same if operation, source and target are; cells that differ only in the order of their nodes count as different.
    """
    left, edges, only = Counter(other.edges), [], []
    for op, source, target in cell.edges:
        if left[op, source, target]:
            left[op, source, target] -= 1
            edges.append((op, source, target))
        else:
            edges.append((f"{MARK} {op}", source, target))
            only.append(f"{op} {source}→{target}")
    text = f"{len(only)} of {len(edges)} edges only here: {', '.join(only)}" if only else "the same edges"
    if {*cell.concat} != {*other.concat}:
        text += f"; its output joins nodes {', '.join(map(str, sorted(cell.concat)))}"
    return Cell(tuple(edges), cell.concat), text


def cell_sections(known: Sequence[tuple[str, Genotype]]) -> list[Section]:
    """Return the section that draws the cells of every (name, genotype) beside those of the first; none where there are none."""
    if not known:
        return []
    (first, reference), *others = known
    if not others:
        figures = [inline_cell(cell, f"{first}, {cell_title(name)}") for name, cell in reference.cells.items()]
        return [Section("Cells", side_by_side(figures), "cells")]
    items = []
    for i, (name, genotype) in enumerate(others):
        summary = f"{name} beside {first}: {_difference_counts(genotype, reference)}"
        items.append(Fold(summary, _pairs(name, genotype, first, reference), i < _OPEN))
    return [Section("Cells", [Prose(_CELLS), *items], "cells")]


def _difference_counts(genotype: Genotype, reference: Genotype) -> str:
    """Write for each cell type how many edges of ``genotype`` are not in ``reference``."""
    parts = []
    for name, cell in genotype.cells.items():
        if name in reference.cells:
            marked, _ = mark_differences(cell, reference.cells[name])
            only = sum(op.startswith(MARK) for op, _, _ in marked.edges)
            count = f"{only} of {len(cell.edges)} edges differ" if only else "the same"
            parts.append(f"{cell_title(name)} {count}")
    return ", ".join(parts) or "other cells"


def _pairs(name: str, genotype: Genotype, first: str, reference: Genotype) -> list[Item]:
    """Return a row for each cell type: the cell of ``reference``, then that of ``genotype``, with their differences marked."""
    rows: list[Item] = []
    for kind in dict.fromkeys([*reference.cells, *genotype.cells]):
        one, other = reference.cells.get(kind), genotype.cells.get(kind)
        figures = []
        for run, cell, counterpart in ((first, one, other), (name, other, one)):
            if cell is not None:
                no_pair = (cell, "the other run has no such cell")
                drawn, text = no_pair if counterpart is None else mark_differences(cell, counterpart)
                figures.append(inline_cell(drawn, f"{run}, {cell_title(kind)}: {text}"))
        rows.append(Row([replace(figure, wide=True) for figure in figures]))
    return rows
