"""The strategies of a comparison: many runs of each on the table, in this process, and what their queries stand for.

    OUT/strategies/NAME.json   the incumbents of every run      OUT/query_cost.json   seconds that a query stands for

Runs with seeds 0, 1, … are kept. The same command makes the missing ones.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oche.blackbox.base import Strategy
from oche.blackbox.closed_form import Moments, random_search
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.atomic_files import read_json, to_json, write_bytes
from oche.core.config.serialize import to_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS
from oche.devices.engine import Engine
from oche.spaces.nasbench201_ground_truth import GroundTruth
from oche.strategies.catalog import find_strategy
from oche.strategies.query_cost import QueryCost, evenly, timed_cost
from oche.strategies.table_runs import TableRuns
from oche.study.comparison.settings import ComparisonConfig

_SAVE_EVERY = 20.0  # seconds between two writes of a strategy's runs


@dataclass(frozen=True)
class StrategyResult:
    """The runs of a strategy: after each of the ``queries`` (Q), test accuracies in percent and estimated seconds, a row each."""

    name: str
    queries: tuple[int, ...]
    true: list[list[float]]
    seconds: list[list[float]]
    hits: int
    """runs that asked for the best cell of the column"""
    cpu_s: float
    """CPU time of all runs"""

    @property
    def final(self) -> list[float]:
        """The test accuracy that each run reached, in percent."""
        return [row[-1] for row in self.true]

    @property
    def mean_curve(self) -> list[tuple[float, float]]:
        """The mean (seconds, accuracy as a share of 1) after each number of queries."""
        return [
            (statistics.fmean(seconds), statistics.fmean(true) / 100)
            for seconds, true in zip(zip(*self.seconds, strict=True), zip(*self.true, strict=True), strict=True)
        ]


@dataclass(frozen=True)
class Control:
    """Random search in closed form: what the best of N uniform draws reaches, in percent."""

    value: np.ndarray
    """(n,) what the search compares"""
    shown: np.ndarray
    """(n,) what is reported of its choice"""
    cost: QueryCost | None

    def __call__(self, queries: int) -> Moments:
        return random_search(self.value, self.shown, queries)

    def curve(self, queries: Sequence[int]) -> list[tuple[float, float]]:
        """Return (mean seconds, mean accuracy as a share of 1) after each number of queries."""
        assert self.cost is not None
        return [(n * self.cost.mean, self(n).mean / 100) for n in queries]


def marks(queries: int) -> tuple[int, ...]:
    """Return the numbers of queries at which incumbents are kept: all up to 10, then some 20 in each factor of ten."""
    steps = {round(10 ** (k / 20)) for k in range(20, 200)}
    return tuple(sorted({*range(1, min(10, queries) + 1), *(n for n in steps if n < queries), queries}))


def control(setting: ComparisonConfig, known: GroundTruth) -> Control | None:
    """Return the control of the comparison; None if the table has no validation accuracies for the data."""
    table, column = known.table, searched_column(known)
    if column not in table.columns:
        return None
    saved = read_json(setting.out / "query_cost.json")
    cost = QueryCost(**saved) if saved else None
    return Control(table.accuracies(column), table.accuracies(known.column), cost)


def searched_column(known: GroundTruth) -> str:
    """Return the column of validation accuracies after 12 epochs on the same data."""
    return f"{known.column.partition('_')[0]}_valid_12ep"


def check_strategies(setting: ComparisonConfig, known: GroundTruth) -> None:
    """Raise `OcheError` if a strategy cannot search on the table."""
    if (column := searched_column(known)) not in known.table.columns:
        raise OcheError(
            f"{known.table.path} has no column {column!r}, on which strategies search; leave {' '.join(setting.strategies)} out"
        )
    moves = BenchmarkMoves(OPERATIONS)
    for name in setting.strategies:
        try:
            ask = find_strategy(name).start(moves, 0, setting.asked).ask()
        except OcheError as error:
            raise OcheError(f"{name}: {error}") from None
        if ask is not None and ask.fidelity < 1:
            raise OcheError(
                f"{name}: it trains at several lengths, and a table has one; use oche search --evaluate train"
            )


def run_strategies(setting: ComparisonConfig, known: GroundTruth, log: Log, stopping: Callable[[], bool]) -> None:
    """Make the missing runs of all strategies. Stops between two runs when asked to."""
    if not setting.strategies:
        return
    cost = _query_cost(setting, known, log)
    column = searched_column(known)
    runs = TableRuns(known.table, column, known.column, cost)
    for name in setting.strategies:
        if not stopping():
            _run(_Rows(setting, name, column, cost), find_strategy(name), runs, setting, log, stopping)


def _query_cost(setting: ComparisonConfig, known: GroundTruth, log: Log) -> QueryCost:
    """Return the cost of queries: as given, as saved, or timed now and saved."""
    file = setting.out / "query_cost.json"
    saved = read_json(file)
    if setting.query_seconds is not None:
        cost = evenly(setting.query_seconds)
    elif saved and not str(saved["source"]).startswith("given"):
        return QueryCost(**saved)
    else:
        log.say("timing the training of five cells, for the cost that queries stand for")
        cost = timed_cost(known.column.partition("_")[0], Engine(setting.device, setting.threads))
    write_bytes(file, (to_json(asdict(cost), indent=1) + "\n").encode())
    return cost


class _Rows:
    """The kept runs of one strategy with one setting; runs with another setting are made anew."""

    def __init__(self, setting: ComparisonConfig, name: str, column: str, cost: QueryCost) -> None:
        self.file = _file(setting.out, name)
        head = {
            "strategy": to_dict(find_strategy(name)), "column": column, "queries": list(marks(setting.asked)),
            "cost": asdict(cost),
        }  # fmt: skip
        self.head: dict[str, Any] = json.loads(to_json(head))
        found = read_json(self.file)
        same = all(found.get(key) == value for key, value in self.head.items())
        self.rows: list[Any] = found["rows"] if same else []
        self.cpu_s: float = found["cpu_s"] if same else 0.0

    def write(self) -> None:
        text = to_json({**self.head, "cpu_s": self.cpu_s, "rows": self.rows}) + "\n"
        self.file.parent.mkdir(exist_ok=True)
        write_bytes(self.file, text.encode())


def _run(
    kept: _Rows, strategy: Strategy, runs: TableRuns, setting: ComparisonConfig, log: Log, stopping: Callable[[], bool]
) -> None:
    saved = time.monotonic()
    with log.progress(kept.file.stem, 1.0) as bar:
        for seed in range(len(kept.rows), setting.runs):
            if stopping():
                break
            began = time.process_time()
            reached, spent, hit = runs.run_with_costs(strategy, seed, marks(setting.asked))
            kept.cpu_s += time.process_time() - began
            kept.rows.append([reached, [round(s, 1) for s in spent], hit])
            bar.update((seed + 1) / setting.runs, {})
            if time.monotonic() - saved > _SAVE_EVERY:
                saved = time.monotonic()
                kept.write()
    kept.write()


def read_results(setting: ComparisonConfig) -> list[StrategyResult]:
    """Return the runs of each strategy that has any, the first ``runs`` of them."""
    found = []
    for name in setting.strategies:
        tree = read_json(_file(setting.out, name))
        if rows := tree.get("rows", [])[: setting.runs]:
            true, seconds, hits = zip(*rows, strict=True)
            share = tree["cpu_s"] * len(rows) / len(tree["rows"])
            found.append(StrategyResult(name, tuple(tree["queries"]), [*true], [*seconds], sum(hits), share))
    return found


def _file(out: Path, name: str) -> Path:
    return out / "strategies" / f"{name}.json"
