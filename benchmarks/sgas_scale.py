"""How often SGAS ends in another cell if its scores are scaled over the undecided edges, not over all edges.

Searches are simulated: the logits of one cell drift at random, each candidate with a trend of its own, and `GreedyEdge` decides
as in a search of 50 epochs. No network is trained. Logits of decided edges stay. Run:

    python -m benchmarks.sgas_scale
"""

from __future__ import annotations

import torch
from torch import Tensor

from oche.core.architecture import Dag, all_alive
from oche.methods.discretize import GreedyEdge, View
from oche.methods.relaxations import Softmax
from oche.networks.operations import DARTS_CANDIDATES

EPOCHS, SEARCHES = 50, 100


def walk(seed: int, trend: float, noise: float) -> list[Tensor]:
    """Return logits (E, O) at the end of each epoch: a trend for each candidate, and a random walk."""
    g = torch.Generator().manual_seed(seed)
    shape = (len(Dag()), len(DARTS_CANDIDATES))
    drift = trend * torch.randn(shape, generator=g, dtype=torch.float64)
    steps = noise * torch.randn(EPOCHS, *shape, generator=g, dtype=torch.float64)
    return [*(drift + steps).cumsum(0)]


def search(logits: list[Tensor], decide: GreedyEdge) -> Tensor:
    """Return the mask (E, O) that ``decide`` leaves after a search in which ``logits`` moved."""
    dag = Dag()
    whole = alive = all_alive(dag, len(DARTS_CANDIDATES))
    last, recent = logits[0], []
    for epoch, now in enumerate(logits, 1):
        last = torch.where((alive.sum(1) > 1)[:, None], now, last)
        mix, undecided = (Softmax()(last, mask, dag, None, 0.0) for mask in (alive, whole))
        recent = [*recent, undecided.ops][-16:]
        alive = decide(
            View("normal", dag, DARTS_CANDIDATES, alive, mix, epoch / EPOCHS, tuple(recent), undecided_mix=undecided)
        )
    return alive


def main() -> None:
    print("| criterion | trend | noise | other cells |\n|---|---|---|---|")
    for criterion in (1, 2):
        for trend, noise in ((0.02, 0.0), (0.02, 0.02), (0.02, 0.1), (0.0, 0.1)):
            other = 0
            for seed in range(SEARCHES):
                logits = walk(seed, trend, noise)
                cells = [search(logits, GreedyEdge(criterion, scale=scale)) for scale in ("all", "open")]
                other += not torch.equal(*cells)
            print(f"| {criterion} | {trend} | {noise} | {other / SEARCHES:.0%} |", flush=True)


if __name__ == "__main__":
    main()
