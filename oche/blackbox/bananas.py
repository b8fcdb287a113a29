"""BANANAS (White et al., AAAI 2021, 1910.11858): Bayesian optimisation with an ensemble and mutated candidates."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from oche.blackbox.base import Ask, Done, Proposals, Report, Strategy, check_counts
from oche.blackbox.moves import Encoding, Moves
from oche.blackbox.random_search import unseen
from oche.blackbox.surrogates import Model, fit
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class Bananas(Strategy):
    """Batches by independent Thompson sampling: each candidate draws a value from N(mean, sd) of the ensemble on its own.

    After ``first`` random architectures a model is fitted before every batch. The candidates are one or two mutations of
    the ``parents`` best so far. Those with the highest draws are asked for. No architecture is asked for twice.

    Deviation 1: the default ensemble is a forest, whose members are trees; ``model="mlp"`` has the published networks.
    Deviation 2: paths of NAS-Bench-201 that contain "none" have no bit.
    """

    paper: ClassVar[str] = "White et al., 1910.11858"
    year: ClassVar[int] = 2021
    differs: ClassVar[str] = "an ensemble ranks mutations of the best, by Thompson sampling"

    first: int = 10
    """random architectures at the start"""
    batch: int = 10
    """architectures between two fits"""
    candidates: int = 100
    """mutations that the model ranks"""
    parents: int = 10
    """best architectures that are mutated"""
    model: Model = "forest"
    """forest; mlp: five networks of ten layers, as published; gp: a Gaussian process; gcn has no spread"""
    encoding: Encoding | None = None
    """one-hot or paths; None: paths where the space has them"""

    def __post_init__(self) -> None:
        if self.model == "gcn":
            raise OcheError(
                "Bananas: model='gcn' is one network, and Thompson sampling needs a spread; use forest, mlp or gp"
            )
        check_counts(self, "first", "batch", "candidates", "parents")

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return _Batches(self, moves, seed)


class _Batches(Proposals):
    def __init__(self, settings: Bananas, moves: Moves, seed: int) -> None:
        self.settings, self.moves, self.seed = settings, moves, seed
        self.g = random.Random(derive_seed(seed, "bananas"))
        self.seen: set[str] = set()
        self.cells: list[Genotype] = []
        self.scores: list[float] = []
        self.asked = 0
        self.batch: list[Genotype] = []

    def ask(self) -> Ask | None:
        if self.asked < self.settings.first:
            found = unseen(self.moves, self.g, self.seen)
        else:
            if not self.batch:
                if len(self.scores) < self.asked:
                    return None  # a batch is fitted to all before it
                self.batch = self._next_batch()
            found = self.batch.pop(0)
        self.asked += 1
        return Ask(found)

    def _next_batch(self) -> list[Genotype]:
        candidates = self._candidates()
        if not candidates:  # all mutations of the best are known
            return [unseen(self.moves, self.g, self.seen)]
        seed = derive_seed(self.seed, "model", len(self.scores))
        members = fit(self.settings.model, self.moves, self.cells, self.scores, seed, self.settings.encoding)(
            candidates
        )
        drawn = members.mean(0) + members.std(0) * np.random.default_rng(seed).standard_normal(len(candidates))
        chosen = [candidates[i] for i in (-drawn).argsort(kind="stable")[: self.settings.batch]]
        self.seen.update(map(self.moves.key, chosen))
        return chosen

    def _candidates(self) -> list[Genotype]:
        """Return new mutations of the best, each once. Raises `Done` if the space is exhausted."""
        if self.moves.size is not None and len(self.seen) >= self.moves.size:
            raise Done
        best = sorted(range(len(self.scores)), key=lambda i: -self.scores[i])[: self.settings.parents]
        found: dict[str, Genotype] = {}
        for _ in range(10 * self.settings.candidates):  # a small space may have fewer
            child = self.cells[self.g.choice(best)]
            for _ in range(self.g.choice((1, 2))):
                child = self.moves.mutate(child, self.g)
            if (key := self.moves.key(child)) not in self.seen:
                found.setdefault(key, child)
            if len(found) == self.settings.candidates:
                break
        return [*found.values()]

    def tell(self, ask: Ask, report: Report) -> None:
        self.cells.append(ask.genotype)
        self.scores.append(report.score)
