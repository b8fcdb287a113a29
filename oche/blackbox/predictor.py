"""Search guided by a predictor (Wen et al. 2020, 1912.00848): random architectures, one fit, the best predicted ones."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from oche.blackbox.base import Ask, Done, Proposals, Report, Strategy, check_counts
from oche.blackbox.moves import Encoding, Moves
from oche.blackbox.random_search import unseen
from oche.blackbox.surrogates import Model, Surrogate, fit
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class PredictorGuided(Strategy):
    """Evaluate N − K random architectures, fit a model, evaluate the K best predicted of all others. Ends by itself.

    With ``threshold`` there are two stages: a classifier is fitted to whether a score reaches it, the model to those that do.
    Only architectures that the classifier accepts are ranked, because low scores would dominate the fit.

    Deviation 1: by default the model is a random forest. The paper has a graph network, ``model="gcn"``.
    Deviation 2: the classifier is the same kind of model, fitted to 0 and 1. The paper's ends in two outputs.
    """

    paper: ClassVar[str] = "Wen et al., 1912.00848"
    year: ClassVar[int] = 2020
    differs: ClassVar[str] = "a forest fitted to random cells picks the last ones"

    queries: int | None = None
    """N, the architectures in all; None: those of the search"""
    top: int | None = None
    """K, the predicted ones; None: a tenth of N"""
    sample: int = 20_000
    """architectures to predict, drawn uniformly, where the space has more"""
    model: Model = "forest"
    """forest: 100 trees, each split sees a third of the features; mlp: the ensemble of networks of BANANAS; gp: a Gaussian
    process; gcn: the paper's graph network"""
    threshold: float | None = None
    """score that an architecture must reach to be worth a prediction (published: 0.91 on NAS-Bench-101); None: one stage"""
    encoding: Encoding | None = "one-hot"
    """one-hot or paths; None: the default of the space"""

    def __post_init__(self) -> None:
        check_counts(self, "queries", "top", "sample")

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        total = self.queries or queries
        if total is None:
            raise OcheError("a predictor must know how many cells it is fitted to; give --queries or --search.queries")
        top = min(self.top or max(1, round(total / 10)), max(1, total // 2))
        if total < 2:
            raise OcheError(f"queries={total} leaves nothing to fit a predictor to; use 2 or more")
        return _Predicted(self, moves, seed, total - top, top)


class _Predicted(Proposals):
    def __init__(self, settings: PredictorGuided, moves: Moves, seed: int, first: int, top: int) -> None:
        self.settings, self.moves, self.seed, self.first, self.top = settings, moves, seed, first, top
        self.g = random.Random(derive_seed(seed, "predictor"))
        self.seen: set[str] = set()
        self.cells: list[Genotype] = []
        self.scores: list[float] = []
        self.asked = 0
        self.chosen: list[Genotype] | None = None

    def ask(self) -> Ask | None:
        if self.asked < self.first:
            found = unseen(self.moves, self.g, self.seen)
            self.asked += 1
            return Ask(found)
        if len(self.scores) < self.first:
            return None
        if self.chosen is None:
            self.chosen = self._best_predicted()
        if not self.chosen:
            raise Done
        return Ask(self.chosen.pop(0))

    def _best_predicted(self) -> list[Genotype]:
        """Return the ``top`` best predicted architectures, the best first. Equal ones are ordered at random."""
        others = [cell for cell in self._all() if self.moves.key(cell) not in self.seen]
        self.g.shuffle(others)
        if not others:
            return []
        cells, scores = self.cells, self.scores
        accepted = np.ones(len(others), bool)
        if self.settings.threshold is not None:
            good = [score >= self.settings.threshold for score in scores]
            if 0 < sum(good) < len(good):  # else there is nothing to tell apart
                accepted = self._fit(cells, [float(g) for g in good], "classifier")(others).mean(0) >= 0.5
                pairs = [(cell, score) for cell, score, g in zip(cells, scores, good, strict=True) if g]
                cells, scores = [c for c, _ in pairs], [s for _, s in pairs]
        predicted = self._fit(cells, scores, "model")(others).mean(0)
        order = np.lexsort((-predicted, ~accepted))  # accepted ones first
        return [others[i] for i in order[: self.top]]

    def _fit(self, cells: list[Genotype], scores: list[float], part: str) -> Surrogate:
        settings = self.settings
        return fit(settings.model, self.moves, cells, scores, derive_seed(self.seed, part), settings.encoding)

    def _all(self) -> list[Genotype]:
        if self.moves.size is not None and self.moves.size <= self.settings.sample:
            return self.moves.everything()
        drawn = [self.moves.random(self.g) for _ in range(self.settings.sample)]
        return [*{self.moves.key(cell): cell for cell in drawn}.values()]

    def tell(self, ask: Ask, report: Report) -> None:
        self.cells.append(ask.genotype)
        self.scores.append(report.score)
