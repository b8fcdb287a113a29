"""Strategies on a table over many seeds, in one process: incumbents by queries, beside the closed form of random search."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oche.blackbox.base import Done, Report, Strategy
from oche.blackbox.closed_form import Moments, random_search
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS, Table


@dataclass(frozen=True)
class Curve:
    """What a strategy reached after each number of ``queries``, one row a seed: test accuracies in percent, (R, Q)."""

    queries: tuple[int, ...]
    true: np.ndarray
    best: float
    """share of the runs that asked for the best cell of the column"""
    cost: np.ndarray
    """(R, Q) what the distinct cells until then cost, by the function that was given, else their number"""

    def moments(self, queries: int) -> Moments:
        """Return the mean over seeds and the sample standard deviation (0 for one seed)."""
        values = self.true[:, self.queries.index(queries)].tolist()
        return Moments(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)


class TableRuns:
    """The cells of a table and their scores in one of its columns, ready for many runs."""

    def __init__(
        self,
        table: Table,
        column: str = "cifar10_valid_12ep",
        shown: str | None = None,
        cost: Callable[[str], float] = lambda arch: 1.0,
    ) -> None:
        """``shown``: the column that is reported of the chosen cells; by default the test accuracies of the same data after 200
        epochs. ``cost`` of a cell, by its text. Raises `OcheError` for an unknown column.
        """
        self.moves = BenchmarkMoves(OPERATIONS)
        shown = shown or f"{column.partition('_')[0]}_test_200ep"
        self.scores: dict[str, float] = _by_cell(table, column, 100)
        self.true = _by_cell(table, shown, 1)
        self.cost = {arch: cost(arch) for arch in self.scores}
        self._best = max(self.scores.values())

    def run(self, strategy: Strategy, seed: int, queries: Sequence[int]) -> tuple[list[float], bool]:
        """Return the true accuracy of the incumbent after each of ``queries``, and whether the best cell was asked for."""
        reached, _, hit = self.run_with_costs(strategy, seed, queries)
        return reached, hit

    def run_with_costs(
        self, strategy: Strategy, seed: int, queries: Sequence[int]
    ) -> tuple[list[float], list[float], bool]:
        """Return as `run`, with the costs of the distinct cells until then.

        It asks and tells as `oche.strategies.loop.drive` does, without a journal. A strategy that ends early keeps its
        incumbent.
        """
        asked = self._asked(strategy, seed, max(queries))
        best, arch, spent, known, marks = -np.inf, "", 0.0, set[str](), set(queries)
        reached: list[float] = []
        costs: list[float] = []
        for number, key in enumerate(asked, 1):
            if key not in known:
                known.add(key)
                spent += self.cost[key]
            if self.scores[key] > best:
                best, arch = self.scores[key], key
            if number in marks:
                reached.append(self.true[arch])
                costs.append(spent)
        left = len(marks) - len(reached)
        return reached + [self.true[arch]] * left, costs + [spent] * left, best == self._best

    def _asked(self, strategy: Strategy, seed: int, queries: int) -> list[str]:
        """Return the texts of the cells that ``strategy`` asks for, in order."""
        proposals = strategy.start(self.moves, seed, queries)
        asked: list[str] = []
        for _ in range(queries):
            try:
                ask = proposals.ask()
            except Done:
                break
            assert ask is not None  # every report has come
            if ask.fidelity < 1:
                raise OcheError("a table has one fidelity; strategies with rungs need trainings")
            asked.append(self.moves.key(ask.genotype))
            proposals.tell(ask, Report(self.scores[asked[-1]], 1.0))
        return asked

    def curve(self, strategy: Strategy, seeds: Sequence[int], queries: Sequence[int]) -> Curve:
        """Return what ``strategy`` reaches with each of ``seeds`` after each of ``queries``. Raises `OcheError` without any."""
        if not seeds or not queries or min(queries) < 1:
            raise OcheError(
                f"{len(seeds)} seeds and queries {tuple(queries)} measure nothing; give at least one of each"
            )
        marks = tuple(sorted(set(queries)))
        runs = [self.run_with_costs(strategy, seed, marks) for seed in seeds]
        reached, costs = (np.array([run[i] for run in runs]) for i in (0, 1))
        return Curve(marks, reached, sum(hit for *_, hit in runs) / len(runs), costs)

    def random(self, queries: int) -> Moments:
        """Return the closed form of random search: the control."""
        archs = [*self.scores]
        value = np.array([self.scores[arch] for arch in archs])
        return random_search(value, np.array([self.true[arch] for arch in archs]), queries)


def _by_cell(table: Table, column: str, unit: float) -> dict[str, float]:
    return dict(zip(table.archs, (table.accuracies(column) / unit).tolist(), strict=True))
