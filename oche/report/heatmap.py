"""Data for the heat maps of a page: the mixture weights of each recorded epoch, and the operations that the cell would keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oche.core.architecture import Genotype, cell_title
from oche.report.html.page import HeatMaps
from oche.report.mixture_history import MixtureHistory, parse_genotype
from oche.report.read_run import RunData

FRAMES = 120  # epochs shown of one run, at most
_NUMBERS = 180_000  # weights in one page, at most: a megabyte and a half


def kept_edges(mixture: MixtureHistory, genotype: Genotype | None) -> list[tuple[int, int]]:
    """Return (edge, operation) indices that ``genotype`` keeps of ``mixture``."""
    cell = genotype.cells.get(mixture.name) if genotype else None
    edges = {edge: e for e, edge in enumerate(mixture.edges)}
    return [
        (edges[source, target], mixture.candidates.index(op))
        for op, source, target in (cell.edges if cell else ())
        if (source, target) in edges and op in mixture.candidates
    ]


def heat_maps(runs: Sequence[tuple[str, RunData]]) -> HeatMaps | None:
    """Return the heat maps of (name, run) pairs, with as many evenly spaced epochs as one page can hold.

    None where no run has recorded weights.
    """
    known = [(name, run) for name, run in runs if run.mixtures]
    size = sum(len(mixture.edges) * len(mixture.candidates) for _, run in known for mixture in run.mixtures)
    most = max(2, min(FRAMES, _NUMBERS // max(size, 1)))
    return HeatMaps([run_frames(name, run, most) for name, run in known]) if known else None


def run_frames(name: str, run: RunData, most: int = FRAMES) -> dict[str, Any]:
    """Return one run as heatmap.js reads it, with at most ``most`` epochs, among them the first and the last."""
    epochs = sorted({epoch for mixture in run.mixtures for epoch, _ in mixture.history})
    picks = {round(i * (len(epochs) - 1) / (most - 1)) for i in range(most)}
    shown = [epoch for i, epoch in enumerate(epochs) if i in picks]
    records = {r["epoch"]: r for r in run.records}
    genotypes = {e: parse_genotype(records[e]["genotype"]) if records[e]["genotype"] else None for e in shown}
    validation = [records[epoch][f"val_{run.metric.key}"] for epoch in shown]
    reached = ["" if value is None else run.metric.text(value, 1).replace("\u00a0", " ") for value in validation]
    groups = [_frames(mixture, shown, genotypes) for mixture in run.mixtures]
    return {"name": name, "epochs": shown, "reached": reached, "groups": groups}


def _frames(mixture: MixtureHistory, shown: list[int], genotypes: dict[int, Genotype | None]) -> dict[str, Any]:
    history = dict(mixture.history)
    values = [v for weights in history.values() for row in weights for v in row]
    return {
        "name": cell_title(mixture.name),
        "edges": [f"{i}→{j}" for i, j in mixture.edges],
        "candidates": mixture.candidates,
        "low": round(min(values), 5),
        "high": round(max(values), 5),
        "frames": [[[round(v, 4) for v in row] for row in history.get(epoch, [])] for epoch in shown],
        "chosen": [kept_edges(mixture, genotypes[epoch]) for epoch in shown],
    }
