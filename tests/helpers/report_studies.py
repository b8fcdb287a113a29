"""Studies whose trials are said to have reached given numbers: directories as `oche study` leaves them, without the hours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import study_files
from oche.study.results import TrialResult, trial_results
from oche.study.run import write_study

CELL = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=range(2, 3), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=range(2, 3))"
)
MACHINE = {"oche": "0.1.0", "torch": "2.13.0", "cpu": "a processor", "threads": 1, "commit": "0123456789abcdef"}


def make(folder: Path, results: Mapping[tuple[str, int], float | str], *, key: str = "test_acc", **keys: Any) -> Path:
    """A study of the (method, seed)s of ``results``, each with what it reached, or with why it failed."""
    trials = [{"method": method, "seed": seed} for method, seed in results]
    study = study_files.study(folder, **{"recipe": "small", "trials": trials, **keys})
    write_study(study)
    for row in trial_results(study.place.out):
        found = results[row.labels["method"], row.seed]
        (fail if isinstance(found, str) else finish)(row, found, key)  # type: ignore[operator]
    return study.place.out


def finish(row: TrialResult, reached: float, key: str = "test_acc") -> None:
    """The trial ended well, after a search of four epochs unless its cell is a random one."""
    searched = row.labels["method"] != "random"
    numbers = {key: reached, "parameters": 1000 + row.seed, "train_seconds": 20.0}
    numbers |= {"search_seconds": 10.0 + row.seed} if searched else {}
    write_json(row.path / "summary.json", {"genotype": CELL, **numbers})
    write_json(row.path / "usage.json", {"peak_mb": 300.0 + row.seed, "cpu_s": 40.0, "wall_s": 44.0, "exit": 0})
    for part in ("search", "train") if searched else ("train",):
        write_json(row.path / part / "environment.json", MACHINE)
    if searched:
        records = [
            {"epoch": e, "val_acc": (0.1, 0.5, 0.4, 0.6)[e - 1] + row.seed / 100, "timings": {"seconds": 2.5 * e}}
            for e in range(1, 5)
        ]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (row.path / "search" / "metrics.jsonl").write_text(text)


def fail(row: TrialResult, why: str, _: str = "") -> None:
    write_json(row.path / "state.json", {"state": "failed", "error": why})


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
