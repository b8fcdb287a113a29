"""A study's trials as jobs: on this machine, as many at a time as there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.console import Log, Row
from oche.core.lock import is_locked
from oche.core.signals import Interrupt
from oche.runs.directory import last_metric
from oche.study.config import Place
from oche.study.processes.pool import Pool, Process
from oche.study.processes.resources import Room, Slot, cores, gpus
from oche.study.processes.subprocess import Child
from oche.study.results import about
from oche.study.trial import RANDOM, mark


@dataclass(frozen=True)
class Job:
    """The trial in the directory ``path``, see `oche.study.processes.pool.Job`."""

    path: Path
    name: str
    parts: tuple[str, ...]
    """runs it consists of: a search, a training or both"""

    @classmethod
    def at(cls, path: Path) -> Job:
        """Raises `OcheError` where there is no trial."""
        tree = about(path)
        searched = () if tree["labels"]["method"] == RANDOM else ("search",)
        trained = () if tree["train"] is None else ("train",)
        return cls(path, f"{tree['group']} · seed {tree['seed']}", searched + trained)

    @property
    def last(self) -> str:
        """The run that ends it."""
        return self.parts[-1]

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def usage_file(self) -> Path:
        return self.path / "usage.json"

    def words(self) -> list[str]:
        """The command that does what is left of it."""
        return ["study", "trial", str(self.path)]

    def found(self) -> dict[str, Any]:
        """What it reached; {} before its end."""
        return atomic.read_json(self.path / "summary.json")

    def busy(self) -> bool:
        return is_locked(self.path)

    def result(self) -> str:
        if summary := self.found():
            return score(summary) or "complete"
        said = atomic.read_json(self.path / "state.json")
        return said.get("error") or ("killed" if said.get("state") == "running" else "not finished")

    def stopped(self) -> bool:
        """Whether it was ended early because others do better."""
        return not self.found() and atomic.read_json(self.path / "state.json").get("state") == "stopped"

    def row_of_progress(self) -> Row:
        last = [found for part in self.parts if (found := last_metric(self.path / part))]
        share = sum(record.get("progress", 0.0) for record in last) / max(1, len(self.parts))
        newest = last[-1] if last else {}
        shown = ("val_acc", "test_acc", "true_acc", "val_ppl")
        return self.name, share, {name: newest[name] for name in shown if name in newest}


def ended(job: Job, process: Process) -> None:
    """Notes what a process could not say itself: that it was killed."""
    if process.exit is not None and process.exit < 0 and not job.found():
        mark(job.path, "failed", f"killed by signal {-process.exit}")


BEST = {
    "test_acc": max,
    "val_acc": max,
    "true_acc": max,
    "search_val_acc": max,
    "test_ppl": min,
    "val_ppl": min,
}  # in order


def score(numbers: dict[str, Any]) -> str:
    """What a trial reached, for people: the number that says most."""
    name = next((name for name in BEST if name in numbers), None)
    if name is None:
        return ""
    value = numbers[name]
    return f"{name.replace('_', ' ')} " + (f"{100 * value:.2f} %" if name.endswith("acc") else f"{value:.2f}")


def best(jobs: Sequence[Job]) -> str:
    """The best of the trials so far: its name and what it reached; "" for none."""
    done = [(job, numbers) for job in jobs if (numbers := job.found())]
    for name, choose in BEST.items():
        having = [(job, numbers) for job, numbers in done if isinstance(numbers.get(name), int | float)]
        if having:
            job, numbers = choose(having, key=lambda pair: pair[1][name])
            return f"{job.name}, {score({name: numbers[name]})}"
    return ""


def run(jobs: Sequence[Job], place: Place, device: str, log: Log, interrupt: Interrupt) -> None:
    """Does the ``jobs`` that are not done, those of the study at ``place``; ``device`` as trials are told."""
    pool(jobs, room(jobs, place, device), log, interrupt, lambda job, slot: begin(job, place.threads, slot))


def pool(
    jobs: Sequence[Job], room: Room, log: Log, interrupt: Interrupt, start: Callable[[Job, Slot], Process]
) -> None:
    """Has those of ``jobs`` done that are not, by processes that ``start`` begins."""
    head = lambda: {"best": found} if (found := best(jobs)) else {}  # noqa: E731
    Pool(room, log, interrupt, start, after=ended, head=head).work(jobs)


def rows_of(jobs: Sequence[Job]) -> list[Row]:
    """Live lines where no pool makes them: one for all, one for each under way."""
    each = [job.row_of_progress() for job in jobs if job.busy()]
    over = sum(1 for job in jobs if job.found() or job.stopped())
    return [(f"{over} of {len(jobs)} trials", over / len(jobs), {"best": best(jobs)}), *each]


def begin(job: Job, threads: int, slot: Slot) -> Child:
    """The process that does what is left of ``job``."""
    return Child(job.words(), job.log, job.usage_file, threads, slot)


def room(jobs: Sequence[Job], place: Place, device: str) -> Room:
    """Room for trials on this machine. With ``jobs: auto`` the memory counts that trials of this study have needed so far."""
    count = None if place.jobs == "auto" else place.jobs
    slots = gpus(place.gpus, count) if on_gpu(device) else cores(place.threads, count)
    known = [atomic.read_json(job.usage_file).get("peak_mb", 0) for job in jobs]
    return Room(slots, measured=count is None, need=int(2**20 * max(known, default=0)))


def on_gpu(device: str) -> bool:
    """Whether trials that are told ``device`` compute on GPUs here."""
    import torch

    return device in ("auto", "cuda") and torch.cuda.is_available()
