"""Run a black-box search in a directory, and read what it found.

    journal.jsonl  genotype.txt  summary.json

The journal is the state; the other two files are made from it when the search ends.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from oche.blackbox.base import Evaluator, Report, Strategy
from oche.blackbox.space_moves import moves_of
from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.atomic_files import to_json, write_bytes
from oche.core.config.serialize import from_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.lock import LOCK_FILE, Lock
from oche.core.nasbench201 import to_text
from oche.core.signals import Interrupt
from oche.runs.options import find_space
from oche.runs.resolve import next_free_path, slug
from oche.spaces.base import Space
from oche.spaces.nasbench201 import NB201Space
from oche.strategies.catalog import STRATEGIES, find_strategy
from oche.strategies.config import StrategyConfig, make_evaluator
from oche.strategies.evaluators import TableAccuracy
from oche.strategies.journal import FILE, Journal, MemoryJournal, read_journal
from oche.strategies.loop import Found, Submit, answer, drive
from oche.training.recipes import RECIPES

_TABLE_EPOCHS = 12  # epochs of training that a query of a validation column stands for


@dataclass(frozen=True)
class StrategyRun:
    """A finished or stopped search: what it found, and its directory (None: it was kept in memory)."""

    found: Found
    summary: dict[str, Any]
    path: Path | None = None

    @property
    def genotype(self) -> Genotype:
        """The best architecture. Raises `OcheError` if no evaluation succeeded."""
        if (best := self.found.best) is None:
            raise OcheError(without_result(self.found))
        return best.ask.genotype


def without_result(found: Found) -> str:
    """Return why a search has found nothing, for people."""
    error = next((t.report.numbers["error"] for t in found.trials if "error" in t.report.numbers), "")
    if error:
        return f"{found.failures} of {len(found.trials)} evaluations failed, none in full succeeded; the first: {error}"
    return f"none of {len(found.trials)} evaluations was a full one; give more queries or a longer budget"


@checked
def search(
    strategy: Strategy | str = "evolution",
    *,
    evaluate: str = "table",
    space: Space | str | None = None,
    out: str | Path | None = None,
    quiet: bool = True,
    **options: Any,
) -> StrategyRun:
    """Search with a strategy that asks for architectures and is told their scores::

        found = oche.strategies.search("local", table="nasbench201.parquet", queries=100, seed=1)
        found.genotype, found.summary["true_acc"]

    - ``strategy``: a `Strategy`, or a name as in ``oche list strategies``.
    - ``evaluate``: "table", "train" or "score:NAME". (Shared weights: `on_shared_weights`.)
    - ``space``: by default NAS-Bench-201 for a table, else the DARTS space.
    - ``out``: a directory for the journal. One that holds a journal of the same settings is continued. None: nothing is
      written.
    - ``options``: further fields of `oche.strategies.config.StrategyConfig`, such as ``queries=100``, ``seed=1``,
      ``data="cifar10"``, ``train=oche.training.small(split=0.5, epochs=3)``.

    Raises `OcheError` if the search cannot start.
    """
    config = make_config(strategy, evaluate, space, options)
    log = Log(quiet=quiet)
    return run_strategy(config, None if out is None else Path(out), log)


def make_config(
    strategy: Strategy | str, evaluate: str, space: Space | str | None, options: dict[str, Any]
) -> StrategyConfig:
    """Return the settings for arguments of `search`, with the defaults of the evaluator. Raises `OcheError`."""
    name = strategy if isinstance(strategy, str) else _name_of(strategy)
    made = find_strategy(strategy) if isinstance(strategy, str) else strategy
    chosen = NB201Space() if space is None and evaluate == "table" else find_space(space)
    defaults: dict[str, Any] = {} if evaluate == "table" else {"data": "digits"}
    if isinstance(recipe := options.get("recipe"), str):
        if recipe not in RECIPES:
            raise OcheError(f"unknown recipe {recipe!r}; use one of {', '.join(RECIPES)}")
        defaults["train"] = replace(RECIPES[recipe](), split=0.5)  # pyright: ignore[reportArgumentType]
    return StrategyConfig(
        **{**defaults, **options, "strategy": name, "search": made, "space": chosen, "evaluate": evaluate}
    )


def _name_of(strategy: Strategy) -> str:
    """Return the listed name of the class of ``strategy``, or its own."""
    return next((n for n, e in STRATEGIES.items() if type(e.make()) is type(strategy)), type(strategy).__name__)


def run_strategy(config: StrategyConfig, out: Path | None, log: Log) -> StrategyRun:
    """Search by ``config`` in the directory ``out``, or in memory. Raises `OcheError` if the search cannot start."""
    config = config.in_full()
    with Interrupt() as interrupt:
        evaluator, space = make_evaluator(config, lambda: interrupt.asked)
        moves = moves_of(space)
        with _journal(config, out) as journal, _workers(config) as submit, log.progress(config.strategy, 1.0) as bar:

            def tell(found: Found) -> None:
                share = len(found.trials) / config.length if config.length else found.spent / (config.seconds or 1)
                best = found.best
                bar.update(min(1.0, share), {} if best is None else {"best": best.report.score})

            found = drive(
                config.search, moves, evaluator, seed=config.seed, queries=config.length, budget=config.seconds,
                journal=journal, submit=submit, jobs=config.jobs, stopping=lambda: interrupt.asked, progress=tell,
            )  # fmt: skip
            summary = summarise(found, config, evaluator)
            if out is not None:
                if found.best is not None:
                    write_bytes(out / "genotype.txt", f"{found.best.ask.genotype}\n".encode())
                write_bytes(out / "summary.json", (to_json(summary, indent=1) + "\n").encode())
    return StrategyRun(found, summary, out)


@checked
def resume(path: str | Path, quiet: bool = True) -> StrategyRun:
    """Continue the search in the directory ``path``. Raises `OcheError` if there is none."""
    return run_strategy(config_of(Path(path)), Path(path), Log(quiet=quiet))


def config_of(path: Path) -> StrategyConfig:
    """Return the settings in the journal of ``path``. Raises `OcheError` if there is no journal."""
    events = read_journal(path / FILE)
    if not events or events[0].get("event") != "start":
        raise OcheError(f"{path} has no journal of a search; give a directory that oche search --strategy made")
    return from_dict(StrategyConfig(), events[0]["settings"], str(path / FILE))


def default_path(config: StrategyConfig) -> Path:
    """Return the next free directory below runs/."""
    return next_free_path(Path("runs") / f"{slug(config.data)}-{config.strategy}")


@contextmanager
def _journal(config: StrategyConfig, out: Path | None) -> Iterator[Journal]:
    """Yield the journal in ``out``, with its first line written. Raises `OcheError` if it has other settings."""
    first = {"event": "start", "settings": config.record()}
    if out is None:
        yield MemoryJournal()
        return
    if (
        not (out / FILE).exists()
        and out.exists()
        and (not out.is_dir() or {p.name for p in out.iterdir()} - {LOCK_FILE})
    ):
        raise OcheError(f"{out} has other files and no journal of a search; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    lock = Lock(out)
    try:
        journal = Journal(out / FILE)
        if not journal.events:
            journal.append(first)
        else:
            _check_settings(journal.events[0].get("settings"), first["settings"], out)
        yield journal
    finally:
        lock.release()


_MAY_DIFFER = ("queries", "budget", "jobs", "threads", "device", "table", "data_dir")


def _check_settings(before: Any, now: dict[str, Any], out: Path) -> None:
    """Raise `OcheError` unless a journal with the settings ``before`` can be continued with ``now``."""
    if not isinstance(before, dict):
        raise OcheError(f"{out / FILE} has no settings in its first line; restore it or choose another --out")
    for name, value in now.items():
        if name not in _MAY_DIFFER and before.get(name) != value:
            raise OcheError(
                f"{out} holds a search with {name}={before.get(name)!r}, not {value!r}; use that, or another --out"
            )


# --- workers ----------------------------------------------------------------------------------------------------------

_own: list[Evaluator] = []  # the evaluator of a worker process


@contextmanager
def _workers(config: StrategyConfig) -> Iterator[Submit | None]:
    """Yield a function that evaluates in ``config.jobs`` processes; None for one job. Each loads the data once."""
    if config.jobs == 1:
        yield None
        return
    with ProcessPoolExecutor(
        config.jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(config.record(),)
    ) as pool:

        def submit(genotype: Genotype, fidelity: float, seed: int) -> Future[Report]:
            return pool.submit(_answer_in_worker, str(genotype), fidelity, seed)

        yield submit


def _start_worker(settings: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process stops the search, after running evaluations
    _own[:] = [make_evaluator(from_dict(StrategyConfig(), settings, "settings"))[0]]


def _answer_in_worker(genotype: str, fidelity: float, seed: int) -> Report:
    return answer(_own[0], Genotype.parse(genotype), fidelity, seed)


# --- results ----------------------------------------------------------------------------------------------------------


def summarise(found: Found, config: StrategyConfig, evaluator: Evaluator) -> dict[str, Any]:
    """Return the results as plain values: see docs/strategies.md."""
    best = found.best
    numbers: dict[str, Any] = {
        "strategy": config.strategy, **evaluator.describe(), "queries": len(found.trials),
        "distinct": len({(t.key, t.report.fidelity) for t in found.trials}), "failures": found.failures,
        "cost": found.spent, "ended": found.ended, "strategy_seconds": round(found.strategy_seconds, 3),
        "incumbents": incumbents(found),
    }  # fmt: skip
    if best is None:
        return {**numbers, "score": None, "error": without_result(found)}
    numbers |= {"score": best.report.score, "trial": best.number, **best.report.numbers}
    if isinstance(evaluator, TableAccuracy):
        column = evaluator.true_column()
        genotype = best.ask.genotype
        numbers |= {
            "arch": to_text(genotype), "true_column": column,
            "true_acc": evaluator.table.accuracy(genotype, column) / 100,
            "regret": evaluator.table.regret(genotype, column) / 100,
        }  # fmt: skip
        if evaluator.column.endswith("_12ep"):  # what the queries would have cost without a table
            numbers["epochs_stood_for"] = _TABLE_EPOCHS * numbers["distinct"]
    return numbers


def incumbents(found: Found) -> list[list[float]]:
    """Return [queries, cost, score] of each report that was better than all before it, at full fidelity."""
    rows: list[list[float]] = []
    cost = 0.0
    for number, trial in enumerate(found.trials, 1):
        cost += trial.report.cost
        report = trial.report
        if report.fidelity == 1 and report.status == "ok" and (not rows or report.score > rows[-1][2]):
            rows.append([number, cost, report.score])
    return rows
