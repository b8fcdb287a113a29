"""Data for the heat maps of a page: the mixture weights of each recorded epoch, and the choices that are decided by then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oche.core.architecture import Genotype, cell_title
from oche.report.html.page import HeatMaps
from oche.report.mixture_history import MixtureHistory, parse_genotype
from oche.report.read_run import RunData

FRAMES = 120  # epochs shown of one run, at most
_NUMBERS = 180_000  # weights in one page, at most: a megabyte and a half


def decided_choices(
    mixture: MixtureHistory, genotype: Genotype | None, epoch: int | None = None
) -> list[tuple[int, int]]:
    """Return the (edge, operation) indices that ``genotype`` keeps of ``mixture`` and that its search decided by ``epoch``.

    Choices within the noise of the search are left out, see `oche.analysis.decisions`.
    """
    found = mixture.decisions(genotype, epoch)
    return [choice for node in found.nodes if node.decided for choice in node.kept] if found else []


def colour_limits(operations: int, highest: float) -> tuple[float, float]:
    """Return the weights at both ends of a heat map's colours: 0, and three times the uniform weight or ``highest``.

    The scale does not adapt to the differences among the weights. So weights that are almost equal look equal.
    """
    return 0.0, max(min(1.0, 3 / max(1, operations)), highest)


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
    highest = max(v for weights in history.values() for row in weights for v in row)
    low, high = colour_limits(len(mixture.candidates), highest)
    return {
        "name": cell_title(mixture.name),
        "edges": [f"{i}→{j}" for i, j in mixture.edges],
        "candidates": mixture.candidates,
        "low": low,
        "high": round(high, 5),
        "frames": [[[round(v, 4) for v in row] for row in history.get(epoch, [])] for epoch in shown],
        "chosen": [decided_choices(mixture, genotypes[epoch], epoch) for epoch in shown],
    }
