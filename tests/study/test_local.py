"""A study whose driver and workers are killed at random moments ends as one that nobody touched."""

from __future__ import annotations

import itertools
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

import small_runs
import study_files
from forked_oche import Oche
from oche.study import run as study_run
from oche.study.config import read_study
from oche.study.results import trial_results
from study_processes import outcome, records, wait_for, workers

pytestmark = pytest.mark.slow  # processes


def disturb(what: str, out: Path, driver: Oche, chance: random.Random) -> None:
    """Kills the driver or one worker with signal 9, or presses Ctrl-C."""
    if what == "worker":
        with suppress(ProcessLookupError, IndexError):  # it has just ended: nothing is killed this time
            os.kill(chance.choice(workers(out)), signal.SIGKILL)
        return
    driver.send_signal({"driver": signal.SIGKILL, "ctrl-c": signal.SIGINT}[what])
    said = "".join(driver.communicate())
    if driver.returncode == 130:
        assert f"continue with: oche study {out}" in said and "Traceback" not in said
        assert "running" not in {row.state for row in trial_results(out)}


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processes are measured on Linux and macOS only")
def test_nothing_is_lost_and_no_trial_runs_twice(tmp_path, monkeypatch):
    chance, disturbances = random.Random(0), ["worker", "driver", "ctrl-c"]
    listed = [{"method": "darts", "recipe": "small"}, {"method": "gdas"}]
    file = study_files.write(tmp_path, checkpoint=0.05, search={"batch": 8, "steps": 42}, trials=listed)  # 14 epochs
    drivers = (Oche("study", file, "--jobs", 2, said=tmp_path / f"driver-{n}") for n in itertools.count())
    out, driver = tmp_path / "out", next(drivers)
    chance.shuffle(disturbances)
    for what in disturbances:
        wait_for(out, records(out) + chance.randint(1, 5), driver)
        disturb(what, out, driver, chance)
        if driver.poll() is not None:
            driver = next(drivers)
    said = "".join(driver.communicate())
    assert driver.returncode == 0, said
    for run in out.glob("trials/*/*/metrics.jsonl"):
        steps = [record["step"] for record in small_runs.metrics(run.parent)]
        assert steps == sorted({*steps})
    starts = sum(log.read_text().count("oche study trial ") for log in out.glob("trials/*/log.txt"))
    assert (
        2 < starts <= 2 + 1 + 2 + 2
    )  # one more for the worker, two each for what the driver and Ctrl-C took with them

    begun = study_files.here(monkeypatch)
    assert (
        study_run.run_study(read_study(file), study_files.LOG, "x") == 0 and not begun
    )  # what is complete is not even begun
    assert study_run.run_study(read_study(file, out=str(tmp_path / "calm")), study_files.LOG, "x") == 0
    assert outcome(out) == outcome(tmp_path / "calm") and len(begun) == 2
