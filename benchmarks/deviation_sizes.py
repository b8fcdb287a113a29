"""How much it matters that methods do as their released code does: the sizes that docs/methods.md states.

python -m benchmarks.deviation_sizes sgas       # simulated searches, some minutes
python -m benchmarks.deviation_sizes searches   # short searches on digits, some minutes
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from statistics import mean

import torch
from torch import Tensor

import oche
from oche.bilevel.search import Search
from oche.core.architecture import Dag, all_alive
from oche.data.loading import load
from oche.devices.engine import Engine
from oche.methods.catalog import METHODS
from oche.methods.discretize import GreedyEdge, Perturbation, View
from oche.methods.recipe import SearchRecipe
from oche.methods.relaxations import Softmax
from oche.networks.operations import DARTS_CANDIDATES
from oche.training.loop import Session, fit_loop

EPOCHS, SIMULATED, SEEDS, STEPS = 50, 100, 3, 40

# --- SGAS: scores scaled over all edges, or over those that are not decided -------------------------------------------


def walk(seed: int, trend: float, noise: float) -> list[Tensor]:
    """Return logits (E, O) at the end of each epoch: a trend for each candidate, and a random walk."""
    g = torch.Generator().manual_seed(seed)
    shape = (len(Dag()), len(DARTS_CANDIDATES))
    drift = trend * torch.randn(shape, generator=g, dtype=torch.float64)
    steps = noise * torch.randn(EPOCHS, *shape, generator=g, dtype=torch.float64)
    return [*(drift + steps).cumsum(0)]


def simulate(logits: list[Tensor], decide: GreedyEdge) -> Tensor:
    """Return the mask (E, O) that ``decide`` leaves of one cell whose ``logits`` move so. Those of decided edges stay."""
    dag = Dag()
    whole = alive = all_alive(dag, len(DARTS_CANDIDATES))
    last, recent = logits[0], []
    for epoch, now in enumerate(logits, 1):
        last = torch.where((alive.sum(1) > 1)[:, None], now, last)
        mix, undecided = (Softmax()(last, mask, dag, None, 0.0) for mask in (alive, whole))
        recent = [*recent, undecided.ops][-16:]
        view = View("normal", dag, DARTS_CANDIDATES, alive, mix, epoch / EPOCHS, tuple(recent), undecided_mix=undecided)
        alive = decide(view)
    return alive


def sgas() -> None:
    print("| criterion | trend | noise | other cells |\n|---|---|---|---|")
    for criterion in (1, 2):
        for trend, noise in ((0.02, 0.0), (0.02, 0.02), (0.02, 0.1), (0.0, 0.1)):
            other = 0
            for seed in range(SIMULATED):
                logits = walk(seed, trend, noise)
                cells = [simulate(logits, GreedyEdge(criterion, scale=scale)) for scale in ("all", "open")]
                other += not torch.equal(*cells)
            print(f"| {criterion} | {trend} | {noise} | {other / SIMULATED:.0%} |", flush=True)


# --- short searches ---------------------------------------------------------------------------------------------------


def finished(recipe: SearchRecipe, seed: int, nodes: int) -> Search:
    """Return a short search on digits, before its selection."""
    data = load("digits")
    space = oche.spaces.darts(channels=4, cells=3, nodes=nodes).fit(data)
    task = Search(space, recipe, data, seed=seed, engine=Engine("cpu"))
    fit_loop(task, recipe.length, Session())
    return task


def shared(a: oche.Genotype, b: oche.Genotype) -> float:
    """Return the share of the edges of ``a``, with their operations, that ``b`` has too."""
    edges = [({*a.cells[kind].edges}, {*b.cells[kind].edges}) for kind in a.cells]
    return sum(len(x & y) for x, y in edges) / sum(len(x) for x, _ in edges)


def compare(name: str, ways: dict[str, Callable[[SearchRecipe], SearchRecipe]], nodes: int = 4) -> None:
    """Print how cells and times of a method differ between ``ways`` to do it, and between seeds."""
    cells: dict[str, list[oche.Genotype]] = {way: [] for way in ways}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for seed in range(SEEDS):
        for way, change in ways.items():
            task = finished(change(METHODS[name].make(steps=STEPS, batch=32)), seed, nodes)
            began = time.perf_counter()
            cells[way].append(task.conclude())
            took[way].append(time.perf_counter() - began)
    now, before = cells.values()
    same = mean(map(shared, now, before))
    seeds = mean(shared(a, b) for a, b in pairwise(now))
    times = " and ".join(f"{mean(t):.1f} s {way}" for way, t in took.items())
    print(
        f"{name}: {same:.0%} of the edges are the same ({seeds:.0%} between seeds); selections took {times}", flush=True
    )


def searches() -> None:
    for name in ("beta-darts", "sdarts-rs"):
        compare(name, {"now": lambda r: r, "before": lambda r: replace(r, none="always")})
    before = Perturbation(logits=False, restart=False)
    compare("darts-pt", {"now": lambda r: r, "before": lambda r: replace(r, select=before)}, nodes=2)


if __name__ == "__main__":
    {"sgas": sgas, "searches": searches}[sys.argv[1]]()
