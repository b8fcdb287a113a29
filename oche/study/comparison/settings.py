"""The settings of a comparison, and the state of each of its searches."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from oche.core.atomic_files import read_json
from oche.core.console import Row
from oche.core.errors import OcheError
from oche.core.lock import is_locked
from oche.core.nasbench201 import CELL, to_text
from oche.methods.catalog import METHODS
from oche.methods.discretize import Evolution, SampleBest
from oche.runs.directory import last_metric
from oche.runs.run import Run
from oche.strategies.catalog import STRATEGIES
from oche.strategies.config import DEFAULT_QUERIES

DEFAULT_METHODS = (
    "darts", "darts-2nd", "i-darts", "gdas", "snas", "drnas", "pc-darts", "darts-minus", "fair-darts", "sgas-1", "sdarts-rs",
    "beta-darts", "gaea", "darts-pt", "random-ws", "one-shot", "evolution-ws",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """Methods, seeds, and the length and size of every search. Raises `OcheError` for contradictions."""

    data: str = "cifar10"
    """CIFAR-10, CIFAR-100 or ImageNet16-120: a name known to oche search, or a file"""
    table: Path | None = None
    """Parquet file with the accuracies of the benchmark (see oche.core.nasbench201.Table); by default the file named by the
    environment variable OCHE_NB201"""
    out: Path = Path("runs/compare")
    """folder for the runs, the table and the picture"""
    methods: tuple[str, ...] = DEFAULT_METHODS
    """names from oche list methods and oche list strategies; strategies search on the table, many times each in one process"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of each method"""
    queries: int | None = None
    """length of each strategy: cells that it may ask for; default: 100"""
    runs: int = 500
    """runs of each strategy, with seeds from 0"""
    query_seconds: float | None = None
    """seconds of training that a query of the table stands for; by default estimated from five cells that are timed once"""
    steps: int | None = None
    """length of each search in steps, which makes the results reproducible"""
    budget: str | None = None
    """length of each search in time, such as 90s or 10m, instead of steps; default: 3m"""
    channels: int = 4
    """width of the supernet's first stage; published: 16"""
    cells: int = 1
    """cells in each stage of the supernet; published: 5"""
    limit: int | None = 5000
    """number of training images, half of them for validation; None: all"""
    batch: int | None = None
    """images in a batch; by default that of each method"""
    tried: int = 200
    """architectures evaluated by methods that select among whole architectures; published: 1000"""
    jobs: int = 1
    """searches at a time; with more than one, they slow each other down"""
    threads: int = 1
    """CPU threads of each search"""
    device: str = "auto"
    """auto, cpu, cuda"""

    def __post_init__(self) -> None:
        if self.steps is not None and self.budget is not None:
            raise OcheError(f"steps={self.steps} and budget={self.budget!r} contradict each other; give one of them")
        if self.query_seconds is not None and not self.query_seconds > 0:
            raise OcheError(f"query_seconds={self.query_seconds:g} is no time; use a number above 0")
        if self.queries is not None and self.queries < 1:
            raise OcheError(f"queries={self.queries} evaluate nothing; use 1 or more")
        for name in ("tried", "jobs", "threads", "runs"):
            if getattr(self, name) < 1:
                raise OcheError(f"{name}={getattr(self, name)} is too few; use 1 or more")
        for name in ("methods", "seeds"):
            values = getattr(self, name)
            if not values or len({*values}) < len(values):
                raise OcheError(
                    f"{name} {' '.join(map(str, values)) or '()'}: give at least one, and none of them twice"
                )

    @property
    def length(self) -> tuple[str, str]:
        """The option of ``oche search`` that sets the length of a search, and its value."""
        return ("budget", self.budget or "3m") if self.steps is None else ("steps", str(self.steps))

    @property
    def shared(self) -> dict[str, Any]:
        """The settings that all runs of a table have in common."""
        free = ("out", "methods", "seeds", "jobs", "table", "queries", "runs", "query_seconds")
        return {f.name: getattr(self, f.name) for f in fields(ComparisonConfig) if f.name not in free}

    @property
    def trials(self) -> list[Trial]:
        """The searches, seed by seed, so that a table that ends early has as many seeds of each method."""
        return [Trial(self.out, method, seed) for seed in self.seeds for method in self.searched]

    @property
    def searched(self) -> tuple[str, ...]:
        """The methods that search in a supernet."""
        return tuple(name for name in self.methods if name not in STRATEGIES)

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies among the methods."""
        return tuple(name for name in self.methods if name in STRATEGIES)

    @property
    def asked(self) -> int:
        """The number of queries of each strategy."""
        return self.queries or DEFAULT_QUERIES

    def words(self, trial: Trial) -> list[str]:
        """The command that starts or continues one search."""
        if (trial.path / "status.json").exists():
            return ["resume", str(trial.path), "--quiet"]
        options = {
            "--method": trial.method, "--space": "nb201", "--space.channels": self.channels, "--space.cells": self.cells,
            "--data": self.data, "--limit": self.limit, "--seed": trial.seed, f"--search.{self.length[0]}": self.length[1],
            "--search.batch": self.batch, "--table": self.table, "--device": self.device, "--threads": self.threads,
            "--out": trial.path,
        }  # fmt: skip
        given = [word for name, value in options.items() if value is not None for word in (name, value)]
        return ["search", *map(str, given), *_selection(trial.method, self.tried), "--quiet"]


def _selection(method: str, tried: int) -> list[str]:
    """The options that make a selection among whole architectures evaluate ``tried`` of them."""
    population = max(2, tried // 10)
    values = {
        SampleBest: {"count": tried},
        Evolution: {"cycles": tried, "population": population, "sample": max(1, population // 4)},
    }.get(type(METHODS[method].make().method.select), {})
    return [word for name, value in values.items() for word in (f"--search.select.{name}", str(value))]


COLUMNS: tuple[str, ...] = (
    "method", "seed", "state", "true_acc", "regret", "val_acc", "steps", "seconds", "step_ms", "skip_share",
    "decided_nodes", "nodes", "peak_mb", "wall_s", "cpu_s", "arch",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One search of a comparison, and its files in the directory ``out``."""

    out: Path
    method: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.seed}"

    @property
    def path(self) -> Path:
        """Its run directory."""
        return self.out / self.name

    @property
    def log(self) -> Path:
        return self.out / f"{self.name}.log"

    @property
    def usage_file(self) -> Path:
        """Memory and time of its process (see `oche.study.processes.oche_process.OcheProcess`); absent before it has ended."""
        return self.out / f"{self.name}.json"

    def outcome(self) -> Run | None:
        """The run, if it is complete and has the true accuracy of its cell."""
        try:
            run = Run.open(self.path)
        except OcheError:
            return None
        return run if run.state == "complete" and "true_acc" in run.summary else None

    def is_running(self) -> bool:
        """Whether a process works on it."""
        return is_locked(self.path)

    def describe_outcome(self) -> str:
        """Its true accuracy in words, or the reason why there is none."""
        if run := self.outcome():
            return f"{100 * run.summary['true_acc']:.2f} %"
        if read_json(self.path / "status.json").get("state") in ("running", "interrupted"):
            return "not finished"
        if not self.usage_file.exists():
            return "not run"
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1][:300] if lines else "it printed nothing"

    def progress_row(self) -> Row:
        """Its live line: name, share of the work that is done, newest accuracies."""
        last = last_metric(self.path)
        return self.name, last.get("progress", 0.0), {k: last[k] for k in ("val_acc", "true_acc") if k in last}

    def row(self) -> dict[str, Any]:
        """Its row of table.csv, see `COLUMNS`."""
        row: dict[str, Any] = {"method": self.method, "seed": self.seed, "state": "not run"}
        if self.path.exists():
            row["state"] = read_json(self.path / "status.json").get("state", "failed")
        if run := self.outcome():
            genotype = run.genotype
            row |= {**run.summary, "arch": to_text(genotype)}
            row["skip_share"] = genotype.cells[CELL].share("skip_connect")
        return {name: value for name, value in {**row, **read_json(self.usage_file)}.items() if name in COLUMNS}
