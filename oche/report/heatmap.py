"""What the page's heat maps draw: for every kept epoch the weights of each cell type, and what would be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oche.core.architecture import Genotype, cell_title
from oche.report.html.page import Heat
from oche.report.mixture_history import Group, parse
from oche.report.read_run import Run

FRAMES = 120  # epochs kept of one run
_NUMBERS = 180_000  # weights in one page: a megabyte and a half


def chosen(group: Group, genotype: Genotype | None) -> list[tuple[int, int]]:
    """(edge, operation) indices that the genotype keeps."""
    cell = genotype.cells.get(group.name) if genotype else None
    edges = {edge: e for e, edge in enumerate(group.edges)}
    return [
        (edges[source, target], group.candidates.index(op))
        for op, source, target in (cell.edges if cell else ())
        if (source, target) in edges and op in group.candidates
    ]


def heat(runs: Sequence[tuple[str, Run]]) -> Heat | None:
    """The heat maps of (name, run), with as many epochs, evenly spread, as one page can hold; None where there are none."""
    known = [(name, run) for name, run in runs if run.groups]
    size = sum(len(group.edges) * len(group.candidates) for _, run in known for group in run.groups)
    most = max(2, min(FRAMES, _NUMBERS // max(size, 1)))
    return Heat([frames(name, run, most) for name, run in known]) if known else None


def frames(name: str, run: Run, most: int = FRAMES) -> dict[str, Any]:
    """One run as the page's script reads it, with at most ``most`` epochs, the first and the last among them."""
    epochs = sorted({epoch for group in run.groups for epoch, _ in group.history})
    picks = {round(i * (len(epochs) - 1) / (most - 1)) for i in range(most)}
    kept = [epoch for i, epoch in enumerate(epochs) if i in picks]
    records = {r["epoch"]: r for r in run.records}
    genotypes = {epoch: parse(records[epoch]["genotype"]) if records[epoch]["genotype"] else None for epoch in kept}
    known = [records[epoch][f"val_{run.measure.key}"] for epoch in kept]
    reached = ["" if value is None else run.measure.text(value, 1).replace("\u00a0", " ") for value in known]
    groups = [_group(group, kept, genotypes) for group in run.groups]
    return {"name": name, "epochs": kept, "reached": reached, "groups": groups}


def _group(group: Group, kept: list[int], genotypes: dict[int, Genotype | None]) -> dict[str, Any]:
    history = dict(group.history)
    values = [v for weights in history.values() for row in weights for v in row]
    return {
        "name": cell_title(group.name),
        "edges": [f"{i}→{j}" for i, j in group.edges],
        "candidates": group.candidates,
        "low": round(min(values), 5),
        "high": round(max(values), 5),
        "frames": [[[round(v, 4) for v in row] for row in history.get(epoch, [])] for epoch in kept],
        "chosen": [chosen(group, genotypes[epoch]) for epoch in kept],
    }
