"""Strategies on a table over many seeds, in one process: incumbents by queries, beside the closed form of random search."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS
from oche.strategies.base import Done, Report, Strategy
from oche.strategies.closed_form import Moments, random_search
from oche.strategies.evaluators import TableAccuracy
from oche.strategies.nasbench201_moves import BenchmarkMoves


@dataclass(frozen=True)
class Curve:
    """What a strategy reached after each number of ``queries``, one row a seed: test accuracies in percent, (R, Q)."""

    queries: tuple[int, ...]
    true: np.ndarray
    best: float
    """share of the runs that asked for the best cell of the column"""

    def moments(self, queries: int) -> Moments:
        """Return the mean over seeds and the sample standard deviation (0 for one seed)."""
        values = self.true[:, self.queries.index(queries)].tolist()
        return Moments(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)


class TableRuns:
    """The cells of a table and their scores, ready for many runs."""

    def __init__(self, evaluator: TableAccuracy, shown: str | None = None) -> None:
        """``shown``: the column that is reported of the chosen cells; by default the test accuracies of the same data after 200
        epochs.
        """
        self.moves = BenchmarkMoves(OPERATIONS)
        self.scores = evaluator.scores()
        self.shown = shown or evaluator.true_column()
        self.true = {arch: evaluator.table.accuracy(arch, self.shown) for arch in evaluator.table.archs}
        self._best = max(self.scores.values())

    def run(self, strategy: Strategy, seed: int, queries: Sequence[int]) -> tuple[list[float], bool]:
        """Return the true accuracy of the incumbent after each of ``queries``, and whether the best cell was asked for.

        It asks and tells as `oche.strategies.loop.search` does, without a journal. A strategy that ends early keeps its
        incumbent.
        """
        proposals = strategy.start(self.moves, seed, max(queries))
        best, arch, reached, marks = -np.inf, "", [], set(queries)
        for number in range(1, max(queries) + 1):
            try:
                ask = proposals.ask()
            except Done:
                break
            assert ask is not None  # every report has come
            if ask.fidelity < 1:
                raise OcheError("a table has one fidelity; strategies with rungs need trainings")
            key = self.moves.key(ask.genotype)
            score = self.scores[key]
            if score > best:
                best, arch = score, key
            if number in marks:
                reached.append(self.true[arch])
            proposals.tell(ask, Report(score, 1.0))
        reached += [self.true[arch]] * (len(marks) - len(reached))
        return reached, best == self._best

    def curve(self, strategy: Strategy, seeds: Sequence[int], queries: Sequence[int]) -> Curve:
        """Return what ``strategy`` reaches with each of ``seeds`` after each of ``queries``. Raises `OcheError` without any."""
        if not seeds or not queries or min(queries) < 1:
            raise OcheError(
                f"{len(seeds)} seeds and queries {tuple(queries)} measure nothing; give at least one of each"
            )
        marks = tuple(sorted(set(queries)))
        runs = [self.run(strategy, seed, marks) for seed in seeds]
        return Curve(marks, np.array([row for row, _ in runs]), sum(hit for _, hit in runs) / len(runs))

    def random(self, queries: int) -> Moments:
        """Return the closed form of random search: the control."""
        archs = [*self.scores]
        value = np.array([self.scores[arch] for arch in archs])
        return random_search(value, np.array([self.true[arch] for arch in archs]), queries)
