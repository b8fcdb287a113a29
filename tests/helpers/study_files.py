"""Studies small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import small_runs
from oche.core.console import Log
from oche.study import local, trial
from oche.study.config import Study, read_study

LOG = Log(quiet=True)
TINY: dict[str, Any] = {
    "device": "cpu", "limit": 60,
    "space": {"channels": 2, "cells": 3, "nodes": 1, "candidates": [*small_runs.FEW]},
    "search": {"batch": 16, "steps": 3}, "train": {"channels": 2, "cells": 3, "steps": 2},
}  # fmt: skip


def write(folder: Path, **keys: Any) -> Path:
    """A study.yaml of tiny trials in ``folder``, whose study is to lie in folder/out."""
    file = folder / "asked.yaml"
    file.write_text(yaml.safe_dump({"out": str(folder / "out"), **TINY, **keys}))
    return file


def study(folder: Path, **keys: Any) -> Study:
    return read_study(write(folder, **keys))


class Here:
    """A process that is none: the trial runs where it is begun. What it raises is a crash."""

    pid = 0
    started: list[str]

    def __init__(self, job: local.TrialJob, threads: int, slot: Any) -> None:
        self.started.append(job.path.name)
        try:
            trial.run_trial(job.path, LOG)
            self.exit_code = 0
        except Exception:
            self.exit_code = 1

    def has_ended(self) -> bool:
        return True

    def request_stop(self) -> None: ...
    def kill(self) -> None: ...


def here(monkeypatch) -> list[str]:
    """Has trials run in this process; returns the ids of those that were begun, in order."""
    small_runs.no_report(monkeypatch)
    Here.started = []
    monkeypatch.setattr(local, "start_process", Here)
    monkeypatch.setattr("oche.study.processes.scheduler._POLL", 0.0)
    return Here.started
