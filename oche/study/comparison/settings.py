"""What is compared, at what length and size, and where each search of it stands."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.console import Row
from oche.core.errors import OcheError
from oche.core.lock import is_locked
from oche.core.nasbench201 import CELL, to_text
from oche.methods.discretize import Evolution, SampleBest
from oche.methods.published import METHODS
from oche.runs.directory import last_metric
from oche.runs.run import Run

DEFAULT_METHODS = (
    "darts", "darts-2nd", "i-darts", "gdas", "snas", "drnas", "pc-darts", "darts-minus", "fair-darts", "sgas-1", "sdarts-rs",
    "beta-darts", "gaea", "darts-pt", "random-ws", "one-shot", "evolution-ws",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """What is compared, and at what size. Raises `OcheError` for what contradicts itself."""

    data: str = "cifar10"
    """CIFAR-10, CIFAR-100 or ImageNet16-120: a name that oche search knows, or a file"""
    table: Path | None = None
    """Parquet file of the benchmark's accuracies (see oche.core.nasbench201.Table); by default that of the environment variable
    OCHE_NB201"""
    out: Path = Path("runs/compare")
    """folder for runs, table and picture"""
    methods: tuple[str, ...] = DEFAULT_METHODS
    """names as in oche list methods"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of each method"""
    steps: int | None = None
    """steps of each search: the same cells whatever else runs"""
    budget: str | None = None
    """time of each search instead, such as 90s, 10m; by default 3m"""
    channels: int = 4
    """width of the supernet's first stage; published: 16"""
    cells: int = 1
    """cells in each stage of the supernet; published: 5"""
    limit: int | None = 5000
    """training images, of which one half validates; None: all"""
    batch: int | None = None
    """images in a batch; by default each method's own"""
    tried: int = 200
    """architectures that selections of whole ones try; published: 1000"""
    jobs: int = 1
    """searches at a time; with more than one, times depend on the others"""
    threads: int = 1
    """CPU threads of each search"""
    device: str = "auto"
    """auto, cpu, cuda"""

    def __post_init__(self) -> None:
        if self.steps is not None and self.budget is not None:
            raise OcheError(f"steps={self.steps} and budget={self.budget!r} contradict each other; give one of them")
        for name in ("tried", "jobs", "threads"):
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
        """The option of ``oche search`` that sets it, and its value."""
        return ("budget", self.budget or "3m") if self.steps is None else ("steps", str(self.steps))

    @property
    def kept(self) -> dict[str, Any]:
        """What all runs of a table have in common."""
        free = ("out", "methods", "seeds", "jobs", "table")
        return {f.name: getattr(self, f.name) for f in fields(ComparisonConfig) if f.name not in free}

    @property
    def trials(self) -> list[Trial]:
        """The searches, seed by seed, so that an early end leaves a fair table."""
        return [Trial(self.out, method, seed) for seed in self.seeds for method in self.methods]

    def words(self, trial: Trial) -> list[str]:
        """The command that starts, or goes on with, one search."""
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
    """Options that let a selection of whole architectures try that many."""
    population = max(2, tried // 10)
    values = {
        SampleBest: {"count": tried},
        Evolution: {"cycles": tried, "population": population, "sample": max(1, population // 4)},
    }.get(type(METHODS[method].make().method.select), {})
    return [word for name, value in values.items() for word in (f"--search.select.{name}", str(value))]


COLUMNS: tuple[str, ...] = (
    "method", "seed", "state", "true_acc", "regret", "val_acc", "steps", "seconds", "step_ms", "skip_share", "peak_mb",
    "wall_s", "cpu_s", "arch",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One search of a comparison, and what it left in the directory ``out``."""

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
        """What its process used, see `oche.study.processes.oche_process.OcheProcess`; absent before it has ended."""
        return self.out / f"{self.name}.json"

    def outcome(self) -> Run | None:
        """The run, if it is complete and knows what its cell reaches."""
        try:
            run = Run.open(self.path)
        except OcheError:
            return None
        return run if run.state == "complete" and "true_acc" in run.summary else None

    def is_running(self) -> bool:
        """Whether a process is at work on it."""
        return is_locked(self.path)

    def describe_outcome(self) -> str:
        """The accuracy that it reached, or why there is none."""
        if run := self.outcome():
            return f"{100 * run.summary['true_acc']:.2f} %"
        if atomic.read_json(self.path / "status.json").get("state") in ("running", "interrupted"):
            return "not finished"
        if not self.usage_file.exists():
            return "not run"
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1][:300] if lines else "nothing was said"

    def progress_row(self) -> Row:
        """Its live line: name, share that is done, newest accuracies."""
        last = last_metric(self.path)
        return self.name, last.get("progress", 0.0), {k: last[k] for k in ("val_acc", "true_acc") if k in last}

    def row(self) -> dict[str, Any]:
        """Its row of table.csv, see `COLUMNS`."""
        row: dict[str, Any] = {"method": self.method, "seed": self.seed, "state": "not run"}
        if self.path.exists():
            row["state"] = atomic.read_json(self.path / "status.json").get("state", "failed")
        if run := self.outcome():
            genotype = run.genotype
            row |= {**run.summary, "arch": to_text(genotype)}
            row["skip_share"] = genotype.cells[CELL].share("skip_connect")
        return {name: value for name, value in {**row, **atomic.read_json(self.usage_file)}.items() if name in COLUMNS}
