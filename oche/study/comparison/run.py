"""Methods × seeds on NAS-Bench-201 at one stated length: every search a process, then a table of what its cells really reach.

    OUT/METHOD-SEED/       the run of a search            OUT/METHOD-SEED.json   its memory and time
    OUT/METHOD-SEED.log    what it said                   OUT/setting.json       what all of them have in common
    OUT/table.md  table.csv  compare.svg  report.html     see `oche.study.comparison.table`

A process of its own has a peak of memory of its own, and one that fails fails alone. Finished runs are never made again,
unfinished ones go on, so that the same line may be given at any time.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.core.errors import OcheError, nearest
from oche.core.lock import Lock
from oche.core.signals import Interrupt
from oche.spaces.nasbench201_ground_truth import VARIABLE, Truth, truth
from oche.study.comparison.table import Trial, draw, page, write
from oche.study.processes.pool import Pool
from oche.study.processes.resources import Room, cores
from oche.study.processes.subprocess import Child

MANY = (
    "darts", "darts-2nd", "i-darts", "gdas", "snas", "drnas", "pc-darts", "darts-minus", "fair-darts", "sgas-1", "sdarts-rs",
    "beta-darts", "gaea", "darts-pt", "random-ws", "one-shot", "evolution-ws",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is compared, and at what size. Raises `OcheError` for what contradicts itself."""

    data: str = "cifar10"
    """CIFAR-10, CIFAR-100 or ImageNet16-120: a name that oche search knows, or a file"""
    table: Path | None = None
    """Parquet file of the benchmark's accuracies (see oche.core.nasbench201.Table); by default that of the environment variable
    OCHE_NB201"""
    out: Path = Path("runs/compare")
    """folder for runs, table and picture"""
    methods: tuple[str, ...] = MANY
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
        return {f.name: getattr(self, f.name) for f in fields(Setting) if f.name not in free}

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
    from oche.methods.discretize import Evolution, SampleBest
    from oche.methods.published import METHODS

    population = max(2, tried // 10)
    values = {
        SampleBest: {"count": tried},
        Evolution: {"cycles": tried, "population": population, "sample": max(1, population // 4)},
    }.get(type(METHODS[method].make().select), {})
    return [word for name, value in values.items() for word in (f"--search.select.{name}", str(value))]


def run(setting: Setting, log: Log) -> int:
    """Makes the runs that are missing, and the table after each of them.

    Returns 0 if all are there, 1 if some failed, 130 if it was interrupted. Raises `OcheError`, before any work, for what
    can be seen to be wrong, and where ``setting.out`` is in use or holds runs of another setting.
    """
    setting, known = _checked(setting)
    setting.out.mkdir(parents=True, exist_ok=True)
    lock = Lock(setting.out)
    try:
        _keep(setting)
        with Interrupt() as interrupt:
            Pool[Trial](
                Room(cores(setting.threads, setting.jobs)), log, interrupt,
                start=lambda trial, slot: Child(
                    setting.words(trial), trial.log, trial.usage_file, setting.threads, slot
                ),
                after=lambda trial, child: write(setting, known),
            ).work(setting.trials)  # fmt: skip
        write(setting, known)
        draw(setting, known)
    finally:
        lock.release()
    log.say((setting.out / "table.md").read_text(encoding="utf-8"))
    log.say(f"table: {setting.out / 'table.md'} and .csv\npicture: {setting.out / 'compare.svg'}")
    if interrupt.asked:
        log.warn("stopped; everything is saved; the same command goes on")
        return 130
    if made := page(setting):
        log.say(f"report: {made}")
    return 0 if all(trial.found() for trial in setting.trials) else 1


def _checked(setting: Setting) -> tuple[Setting, Truth]:
    """``setting`` with its table found, and what the table knows. Raises `OcheError`."""
    from oche.methods.published import METHODS
    from oche.spaces import nb201

    if not hasattr(os, "wait4"):
        raise OcheError(
            "oche compare measures its processes as only Linux and macOS can; run oche search for each instead"
        )
    if unknown := [name for name in setting.methods if name not in METHODS]:
        raise OcheError(f"unknown method {unknown[0]!r}{nearest(unknown[0], [*METHODS])}; known: {', '.join(METHODS)}")
    space = nb201(channels=setting.channels, cells=setting.cells)
    budget = None if setting.steps is not None else setting.length[1]
    given: dict[str, Any] = {"steps": setting.steps, "budget": budget}
    given |= {"batch": setting.batch} if setting.batch is not None else {}
    for name in setting.methods:
        try:
            replace(METHODS[name].make(), **given).check(space)
        except OcheError as error:
            raise OcheError(f"{name}: {error}") from None
    path = setting.table or os.environ.get(VARIABLE)
    if not path:
        raise OcheError(
            f"a comparison needs NAS-Bench-201's accuracies; give their Parquet file as --table FILE or in {VARIABLE}"
        )
    setting = replace(setting, table=Path(os.path.abspath(os.path.expanduser(path))))
    known = truth(setting.table, setting.data)
    assert known is not None
    return setting, known


def _keep(setting: Setting) -> None:
    """Writes setting.json. Raises `OcheError` where it says something else."""
    file = setting.out / "setting.json"
    before, now = atomic.read_json(file), setting.kept
    if before and before != now:
        differs = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        said = ", ".join(f"{name}={before.get(name)!r}, not {now.get(name)!r}" for name in differs)
        raise OcheError(f"{setting.out} holds runs of another setting: {said}; give that setting, or another --out")
    if not before:
        atomic.write_bytes(file, json.dumps(now).encode())
