"""`oche study`: write the directory of a study, do its trials on this machine, and report how they ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from oche.core.atomic_files import is_leftover, to_json, write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError, plural
from oche.core.lock import Lock
from oche.core.signals import Interrupt
from oche.study.config import Study
from oche.study.local import TrialJob, run_locally, standing
from oche.study.trial import short_names
from oche.study.validate import check_trials


def write_study(study: Study) -> tuple[TrialJob, ...]:
    """Write study.yaml, trials.json and the trial.json of each trial; keep the trials' runs. The caller holds the lock."""
    out = study.place.out
    jobs = []
    for trial, name in zip(study.trials, short_names([trial.labels for trial in study.trials]), strict=True):
        trial.write(out / "trials" / trial.id, name)
        jobs.append(TrialJob.at(out / "trials" / trial.id))
    listed = to_json({"trials": [trial.id for trial in study.trials]}, indent=1)
    write_bytes(out / "trials.json", listed.encode())
    write_bytes(out / "study.yaml", study.text.encode())
    return tuple(jobs)


def check_directory(out: Path) -> None:
    """Raise `OcheError` if ``out`` holds anything other than a study."""
    if out.exists() and not out.is_dir():
        raise OcheError(f"{out} is a file, and a study needs a directory; choose another --out")
    known = {"study.yaml", "trials.json", "trials", ".lock"}
    others = [p.name for p in out.iterdir() if not is_leftover(p)] if out.is_dir() else []
    if others and not known & {*others}:
        raise OcheError(f"{out} is no study and not empty (it has {min(others)}); choose another --out")


@contextmanager
def open_study(study: Study, log: Log, where: str) -> Iterator[tuple[TrialJob, ...]]:
    """Check the trials of ``study``, write its directory and lock it; yield the trials as jobs.

    ``where`` names the study's file in messages. Raises `OcheError`, before any work, for trials that cannot run as asked,
    and if another process runs the study.
    """
    check_directory(study.place.out)
    check_trials(study.trials, where, log)
    study.place.out.mkdir(parents=True, exist_ok=True)
    lock = Lock(study.place.out)
    try:
        jobs = write_study(study)
        done = sum(1 for job in jobs if job.outcome())
        log.say(plural(len(jobs), "trial") + (f", {done} of them complete" if done else ""))
        yield jobs
    finally:
        lock.release()


def run_study(study: Study, log: Log, where: str) -> int:
    """Do the unfinished trials of ``study`` on this machine.

    Returns 0 if all trials are done, 1 if some failed, 130 if it was interrupted. Raises as `open_study` does.
    """
    with open_study(study, log, where) as jobs, Interrupt() as interrupt:
        run_locally(jobs, study.place, study.trials[0].search.device, log, interrupt)
    return finish_study(study.place.out, jobs, log, interrupt.asked)


def finish_study(out: Path, jobs: Sequence[TrialJob], log: Log, stopped: bool) -> int:
    """Print how a study ended; return the exit code."""
    missing = [job for job in jobs if not job.outcome() and not job.stopped()]
    if found := standing(jobs):
        log.say(": ".join(found))
    if stopped:
        log.warn(f"stopped; everything is saved; continue with: oche study {out}")
        return 130
    for job in missing:
        log.warn(f"{job.name}: {job.describe_outcome()}; see {job.log}")
    where = shlex.quote(str(out))
    log.say(f"next: oche study report {where}   tests, intervals, curves and cells, as a page")
    log.say(f"      oche study status {where}   a row for each trial")
    return 1 if missing else 0
