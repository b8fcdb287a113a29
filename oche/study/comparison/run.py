"""Run methods × seeds on NAS-Bench-201 at one length, and write a table of the true accuracies of the found cells.

    OUT/METHOD-SEED/       the run of a search            OUT/METHOD-SEED.json   its memory and time
    OUT/METHOD-SEED.log    its output                     OUT/setting.json       the settings that all runs share
    OUT/table.md  table.csv  compare.svg  report.html     see `oche.study.comparison.table`
    OUT/strategies/        the runs of strategies on the table, see `oche.study.comparison.strategies`

Every search is a process of its own, so its peak memory is its own, and a failure stops no other search. The same command
keeps finished runs and continues unfinished ones.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from oche.core.atomic_files import read_json, write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError, did_you_mean
from oche.core.lock import Lock
from oche.core.signals import Interrupt
from oche.methods.catalog import METHODS
from oche.spaces import nb201
from oche.spaces.nasbench201_ground_truth import TABLE_VARIABLE, GroundTruth, load_ground_truth
from oche.strategies.catalog import STRATEGIES
from oche.study.comparison.settings import ComparisonConfig, Trial
from oche.study.comparison.strategies import check_strategies, run_strategies
from oche.study.comparison.table import draw_pictures, show_table, write_page, write_table
from oche.study.processes.oche_process import OcheProcess
from oche.study.processes.resources import ResourcePool, core_slots
from oche.study.processes.scheduler import Scheduler


def run_comparison(setting: ComparisonConfig, log: Log) -> int:
    """Make the missing runs; write the table after each of them.

    Returns 0 if all runs are complete, 1 if some failed, 130 if it was interrupted. Raises `OcheError`, before any work, for
    settings that cannot work, and if ``setting.out`` is in use or holds runs with other settings.
    """
    setting, known = _checked(setting)
    setting.out.mkdir(parents=True, exist_ok=True)
    lock = Lock(setting.out)
    try:
        _write_settings(setting)
        with Interrupt() as interrupt:
            run_strategies(setting, known, log, lambda: interrupt.asked)
            Scheduler[Trial](
                ResourcePool(core_slots(setting.threads, setting.jobs)), log, interrupt,
                start=lambda trial, slot: OcheProcess(
                    setting.words(trial), trial.log, trial.usage_file, setting.threads, slot
                ),
                after=lambda trial, process: write_table(setting, known),
            ).run(setting.trials)  # fmt: skip
        write_table(setting, known)
        draw_pictures(setting, known)
    finally:
        lock.release()
    show_table(setting, known, log)
    drawn = [name for name in ("compare.svg", "incumbents.svg") if (setting.out / name).exists()]
    log.say(f"table: {setting.out / 'table.md'} and .csv")
    if drawn:
        log.say(
            f"{'picture' if len(drawn) == 1 else 'pictures'}: {', '.join(str(setting.out / name) for name in drawn)}"
        )
    if interrupt.asked:
        log.warn("stopped; everything is saved; the same command continues")
        return 130
    if made := write_page(setting):
        log.say(f"report: {made}")
    return 0 if all(trial.outcome() for trial in setting.trials) else 1


def _checked(setting: ComparisonConfig) -> tuple[ComparisonConfig, GroundTruth]:
    """Check ``setting``; return it with the absolute path of its table, and the table. Raises `OcheError`."""
    if not hasattr(os, "wait4"):
        raise OcheError(
            "oche compare runs on Linux and macOS only, which measure processes; run oche search for each instead"
        )
    if unknown := [name for name in setting.searched if name not in METHODS]:
        known_names = [*METHODS, *STRATEGIES]
        raise OcheError(
            f"unknown method {unknown[0]!r}{did_you_mean(unknown[0], known_names)}; known: {', '.join(known_names)}"
        )
    if setting.queries is not None and not setting.strategies:
        raise OcheError(
            f"queries={setting.queries} is the length of strategies, and methods names none; add local or evolution, for example"
        )
    space = nb201(channels=setting.channels, cells=setting.cells)
    budget = None if setting.steps is not None else setting.length[1]
    given: dict[str, Any] = {"steps": setting.steps, "budget": budget}
    given |= {"batch": setting.batch} if setting.batch is not None else {}
    for name in setting.searched:
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
    if setting.strategies:
        check_strategies(setting, known)
    return setting, known


def _write_settings(setting: ComparisonConfig) -> None:
    """Write setting.json. Raises `OcheError` if the file has other settings."""
    file = setting.out / "setting.json"
    before, now = read_json(file), setting.shared
    if before and before != now:
        differs = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        described = ", ".join(f"{name}={before.get(name)!r}, not {now.get(name)!r}" for name in differs)
        raise OcheError(f"{setting.out} holds runs of another setting: {described}; use that setting, or another --out")
    if not before:
        write_bytes(file, json.dumps(now).encode())
