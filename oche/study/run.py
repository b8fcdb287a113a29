"""`oche study`: from a file to the directory of a study, whose trials are then done here, on Ray or by Slurm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.lock import Lock
from oche.core.signals import Interrupt
from oche.study.config import Study
from oche.study.local import Job, best
from oche.study.local import run as run_here
from oche.study.validate import check


def prepare(study: Study) -> tuple[Job, ...]:
    """Writes study.yaml, trials.json and each trial's trial.json; what trials have done so far stays. The lock is held."""
    out = study.place.out
    jobs = []
    for trial in study.trials:
        trial.write(out / "trials" / trial.id)
        jobs.append(Job.at(out / "trials" / trial.id))
    listed = atomic.to_json({"trials": [trial.id for trial in study.trials]}, indent=1)
    atomic.write_bytes(out / "trials.json", listed.encode())
    atomic.write_bytes(out / "study.yaml", study.text.encode())
    return tuple(jobs)


def check_out(out: Path) -> None:
    """Raises `OcheError` where ``out`` holds something else than a study."""
    if out.exists() and not out.is_dir():
        raise OcheError(f"{out} is a file, and a study needs a directory; choose another --out")
    known = {"study.yaml", "trials.json", "trials", ".lock"}
    others = [p.name for p in out.iterdir() if not atomic.is_leftover(p)] if out.is_dir() else []
    if others and not known & {*others}:
        raise OcheError(f"{out} is no study and not empty (it has {min(others)}); choose another --out")


@contextmanager
def opened(study: Study, log: Log, where: str) -> Iterator[tuple[Job, ...]]:
    """The trials of ``study`` as jobs, checked and written down; its directory is locked meanwhile.

    Raises `OcheError`, before any work, for what can be seen to be wrong, and where another process runs the study.
    ``where`` names its file.
    """
    check_out(study.place.out)
    check(study.trials, where, log)
    study.place.out.mkdir(parents=True, exist_ok=True)
    lock = Lock(study.place.out)
    try:
        jobs = prepare(study)
        done = sum(1 for job in jobs if job.found())
        log.say(f"{len(jobs)} trials" + (f", {done} of them complete" if done else ""))
        yield jobs
    finally:
        lock.release()


def run(study: Study, log: Log, where: str) -> int:
    """Does all trials of ``study`` that are not done, on this machine. Returns 0 if all are, 1 if some failed, 130 if it was
    interrupted; raises as `opened` does."""
    with opened(study, log, where) as jobs, Interrupt() as interrupt:
        run_here(jobs, study.place, study.trials[0].search.device, log, interrupt)
    return close(study.place.out, jobs, log, interrupt.asked)


def close(out: Path, jobs: Sequence[Job], log: Log, stopped: bool) -> int:
    """Says how a study ended; returns the exit code."""
    missing = [job for job in jobs if not job.found() and not job.stopped()]
    if found := best(jobs):
        log.say(f"best: {found}")
    if stopped:
        log.warn(f"stopped; everything is saved; go on with: oche study {out}")
        return 130
    for job in missing:
        log.warn(f"{job.name}: {job.result()}; see {job.log}")
    log.say(f"trials: oche study status {out}\nreport: oche study report {out}")
    return 1 if missing else 0
