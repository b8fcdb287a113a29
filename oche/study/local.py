"""The trials of a study as jobs, done on this machine, as many at a time as fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.analysis.summary import differ
from oche.core.atomic_files import read_json
from oche.core.console import Log, Row
from oche.core.errors import plural
from oche.core.lock import is_locked
from oche.core.signals import Interrupt
from oche.methods.catalog import METHODS
from oche.runs.directory import last_metric
from oche.study.config import Placement
from oche.study.processes.oche_process import OcheProcess
from oche.study.processes.resources import ResourcePool, Slot, core_slots, gpu_slots
from oche.study.processes.scheduler import Process, Scheduler
from oche.study.results import read_trial_file
from oche.study.trial import mark_trial


@dataclass(frozen=True)
class TrialJob:
    """The trial in the directory ``path``, see `oche.study.processes.scheduler.Job`."""

    path: Path
    name: str
    parts: tuple[str, ...]
    """the runs that it consists of: a search, a training or both"""

    @classmethod
    def at(cls, path: Path) -> TrialJob:
        """The job of the trial at ``path``. Raises `OcheError` if there is no trial."""
        tree = read_trial_file(path)
        searched = ("search",) if tree["labels"]["method"] in METHODS else ()
        trained = () if tree["train"] is None else ("train",)
        return cls(path, f"{tree.get('name', tree['group'])} · seed {tree['seed']}", searched + trained)

    @property
    def last(self) -> str:
        """Its last run."""
        return self.parts[-1]

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def usage_file(self) -> Path:
        return self.path / "usage.json"

    def words(self) -> list[str]:
        """The command that finishes it."""
        return ["study", "trial", str(self.path)]

    def outcome(self) -> dict[str, Any]:
        """Its results; {} before its end."""
        return read_json(self.path / "summary.json")

    def is_running(self) -> bool:
        return is_locked(self.path)

    def describe_outcome(self) -> str:
        if summary := self.outcome():
            return format_score(summary) or "complete"
        noted = read_json(self.path / "state.json")
        return noted.get("error") or ("killed" if noted.get("state") == "running" else "not finished")

    def stopped(self) -> bool:
        """Whether it was stopped early because other trials are better."""
        return not self.outcome() and read_json(self.path / "state.json").get("state") == "stopped"

    def progress_row(self) -> Row:
        last = [found for part in self.parts if (found := last_metric(self.path / part))]
        share = sum(record.get("progress", 0.0) for record in last) / max(1, len(self.parts))
        newest = last[-1] if last else {}
        shown = ("val_acc", "test_acc", "true_acc", "val_ppl")
        return self.name, share, {name: newest[name] for name in shown if name in newest}


def note_killed(job: TrialJob, process: Process) -> None:
    """Mark a trial as failed if its process was killed, since that process could not do it."""
    if process.exit_code is not None and process.exit_code < 0 and not job.outcome():
        mark_trial(job.path, "failed", f"killed by signal {-process.exit_code}")


MEASURES = {
    "test_acc": max,
    "val_acc": max,
    "true_acc": max,
    "search_val_acc": max,
    "test_ppl": min,
    "val_ppl": min,
}  # results by which trials are compared, and whether the larger is better; the first that all have counts


def format_score(numbers: dict[str, Any]) -> str:
    """The result of a trial as text: the first of `MEASURES` that it has; "" for none."""
    name = next((name for name in MEASURES if name in numbers), None)
    if name is None:
        return ""
    value = numbers[name]
    return f"{name.replace('_', ' ')} " + (f"{100 * value:.2f} %" if name.endswith("acc") else f"{value:.2f}")


def standing(jobs: Sequence[TrialJob]) -> tuple[str, str] | None:
    """Return ("best", name and result of the best trial so far), or ("no single best", text) where trials tie; None for none.

    Trials tie with the best one if their results are equal, or if the images that they were measured on are too few to tell
    them apart (`oche.analysis.summary.differ`).
    """
    done = [(job, numbers) for job in jobs if (numbers := job.outcome())]
    for name, choose in MEASURES.items():
        having = [(job, numbers) for job, numbers in done if isinstance(numbers.get(name), int | float)]
        if not having:
            continue
        job, best = choose(having, key=lambda pair: pair[1][name])
        images = best.get(name.replace("_acc", "_images")) if name.endswith("_acc") else None
        level = [n[name] for _, n in having if not differ(n[name], best[name], images)]
        if len(level) == 1:
            return "best", f"{job.name}, {format_score({name: best[name]})}"
        low, high = (format_score({name: value}) for value in (min(level), max(level)))
        if low == high:
            return "no single best", f"{len(level)} of {plural(len(having), 'trial')} have {high}"
        reach = f"{low} to {high.removeprefix(name.replace('_', ' ') + ' ')}"
        return (
            "no single best",
            f"{len(level)} of {plural(len(having), 'trial')} have {reach}, too close for {images:,} images",
        )
    return None


def run_locally(jobs: Sequence[TrialJob], place: Placement, device: str, log: Log, interrupt: Interrupt) -> None:
    """Do the unfinished ``jobs`` of a study. ``device``: the one that its trials ask for."""
    run_jobs(
        jobs,
        local_resources(jobs, place, device),
        log,
        interrupt,
        lambda job, slot: start_process(job, place.threads, slot),
    )


def run_jobs(
    jobs: Sequence[TrialJob],
    resources: ResourcePool,
    log: Log,
    interrupt: Interrupt,
    start: Callable[[TrialJob, Slot], Process],
) -> None:
    """Do the unfinished ``jobs`` in the processes that ``start`` begins."""
    head = lambda: dict([found]) if (found := standing(jobs)) else {}  # noqa: E731
    Scheduler(resources, log, interrupt, start, after=note_killed, head=head).run(jobs)


def progress_rows(jobs: Sequence[TrialJob]) -> list[Row]:
    """Live lines for a study that no scheduler runs: one for all trials, one for each running trial."""
    each = [job.progress_row() for job in jobs if job.is_running()]
    over = sum(1 for job in jobs if job.outcome() or job.stopped())
    found = standing(jobs)
    return [(f"{over} of {plural(len(jobs), 'trial')}", over / len(jobs), dict([found]) if found else {}), *each]


def start_process(job: TrialJob, threads: int, slot: Slot) -> OcheProcess:
    """Start the process that finishes ``job``."""
    return OcheProcess(job.words(), job.log, job.usage_file, threads, slot)


def local_resources(jobs: Sequence[TrialJob], place: Placement, device: str) -> ResourcePool:
    """Slots for trials on this machine. With ``jobs: auto`` the peak memory of earlier trials of the study counts."""
    count = None if place.jobs == "auto" else place.jobs
    slots = gpu_slots(place.gpus, count) if on_gpu(device) else core_slots(place.threads, count)
    known = [read_json(job.usage_file).get("peak_mb", 0) for job in jobs]
    return ResourcePool(slots, measured=count is None, need=int(2**20 * max(known, default=0)))


def on_gpu(device: str) -> bool:
    """Whether trials that ask for ``device`` compute on GPUs of this machine."""
    import torch

    return device in ("auto", "cuda") and torch.cuda.is_available()
