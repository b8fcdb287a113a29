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
from dataclasses import replace
from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.core.errors import OcheError, did_you_mean
from oche.core.lock import Lock
from oche.core.signals import Interrupt
from oche.methods.published import METHODS
from oche.spaces import nb201
from oche.spaces.nasbench201_ground_truth import TABLE_VARIABLE, GroundTruth, load_ground_truth
from oche.study.comparison.settings import ComparisonConfig, Trial
from oche.study.comparison.table import draw_picture, write_page, write_table
from oche.study.processes.oche_process import OcheProcess
from oche.study.processes.resources import ResourcePool, core_slots
from oche.study.processes.scheduler import Scheduler


def run_comparison(setting: ComparisonConfig, log: Log) -> int:
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
            Scheduler[Trial](
                ResourcePool(core_slots(setting.threads, setting.jobs)), log, interrupt,
                start=lambda trial, slot: OcheProcess(
                    setting.words(trial), trial.log, trial.usage_file, setting.threads, slot
                ),
                after=lambda trial, child: write_table(setting, known),
            ).work(setting.trials)  # fmt: skip
        write_table(setting, known)
        draw_picture(setting, known)
    finally:
        lock.release()
    log.say((setting.out / "table.md").read_text(encoding="utf-8"))
    log.say(f"table: {setting.out / 'table.md'} and .csv\npicture: {setting.out / 'compare.svg'}")
    if interrupt.asked:
        log.warn("stopped; everything is saved; the same command goes on")
        return 130
    if made := write_page(setting):
        log.say(f"report: {made}")
    return 0 if all(trial.outcome() for trial in setting.trials) else 1


def _checked(setting: ComparisonConfig) -> tuple[ComparisonConfig, GroundTruth]:
    """``setting`` with its table found, and what the table knows. Raises `OcheError`."""
    if not hasattr(os, "wait4"):
        raise OcheError(
            "oche compare measures its processes as only Linux and macOS can; run oche search for each instead"
        )
    if unknown := [name for name in setting.methods if name not in METHODS]:
        raise OcheError(f"unknown method {unknown[0]!r}{did_you_mean(unknown[0], [*METHODS])}; known: {', '.join(METHODS)}")
    space = nb201(channels=setting.channels, cells=setting.cells)
    budget = None if setting.steps is not None else setting.length[1]
    given: dict[str, Any] = {"steps": setting.steps, "budget": budget}
    given |= {"batch": setting.batch} if setting.batch is not None else {}
    for name in setting.methods:
        try:
            replace(METHODS[name].make(), **given).check(space)
        except OcheError as error:
            raise OcheError(f"{name}: {error}") from None
    path = setting.table or os.environ.get(TABLE_VARIABLE)
    if not path:
        raise OcheError(
            f"a comparison needs NAS-Bench-201's accuracies; give their Parquet file as --table FILE or in {TABLE_VARIABLE}"
        )
    setting = replace(setting, table=Path(os.path.abspath(os.path.expanduser(path))))
    known = load_ground_truth(setting.table, setting.data)
    assert known is not None
    return setting, known


def _keep(setting: ComparisonConfig) -> None:
    """Writes setting.json. Raises `OcheError` where it says something else."""
    file = setting.out / "setting.json"
    before, now = atomic.read_json(file), setting.kept
    if before and before != now:
        differs = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        said = ", ".join(f"{name}={before.get(name)!r}, not {now.get(name)!r}" for name in differs)
        raise OcheError(f"{setting.out} holds runs of another setting: {said}; give that setting, or another --out")
    if not before:
        atomic.write_bytes(file, json.dumps(now).encode())
