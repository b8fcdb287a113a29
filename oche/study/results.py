"""What a study's trials are and reached, read from its directory alone, at any time and by anyone.

OUT/study.yaml           what was asked, complete           OUT/trials.json   ids of its trials, in order
OUT/trials/ID/trial.json   what the trial is               OUT/trials/ID/state.json   how far it is
OUT/trials/ID/search/, train/   its runs                   OUT/trials/ID/summary.json   what it reached; absent before
OUT/trials/ID/log.txt      what its processes said         OUT/trials/ID/usage.json     their memory and time
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oche.core import atomic_files as atomic
from oche.core.errors import OcheError
from oche.core.lock import is_locked

State = Literal["waiting", "running", "complete", "failed", "interrupted", "stopped"]  # stopped early: others do better


@dataclass(frozen=True)
class Row:
    """One trial. Accuracies are shares of 1, times seconds, memory MB (2^20 bytes)."""

    id: str
    group: str
    """what it shares with the trials of other seeds, such as "beta-darts · darts · digits" """
    labels: dict[str, str]
    """method, space, data, and the settings in which the trials of the study differ"""
    seed: int
    state: State
    path: Path
    """the trial's directory"""
    numbers: dict[str, float]
    """of the final training test_acc or val_acc (test_ppl, val_ppl), parameters, flops, train_seconds; of the search
    search_val_acc, search_seconds, search_steps, with a penalty on a cost search_cost; with a table true_acc, regret; of the
    processes peak_mb, cpu_s"""
    genotype: str | None


def ids(study: Path) -> list[str]:
    """The trials of a study in their order. Raises `OcheError` where there is no study."""
    if not (study / "study.yaml").is_file():
        raise OcheError(f"{study} is no study: it has no study.yaml; give a directory that oche study made")
    return [str(name) for name in atomic.read_json(study / "trials.json").get("trials", [])]


def rows(study: Path) -> tuple[Row, ...]:
    """All trials of the study at ``study``, finished or not, in the order of its file. Raises `OcheError`."""
    return tuple(row(study / "trials" / name) for name in ids(study))


def row(trial: Path) -> Row:
    """The trial in the directory ``trial``."""
    tree, summary = about(trial), atomic.read_json(trial / "summary.json")
    return Row(
        id=tree["id"], group=tree["group"], labels=tree["labels"], seed=tree["seed"], state=state(trial), path=trial,
        numbers={**_numbers(summary), **_usage(trial)}, genotype=summary.get("genotype"),
    )  # fmt: skip


def about(trial: Path) -> dict[str, Any]:
    """What trial.json says. Raises `OcheError` where there is none."""
    if tree := atomic.read_json(trial / "trial.json"):
        return tree
    raise OcheError(f"{trial} is no trial: it has no trial.json; write oche study FILE once more, which makes it anew")


def state(trial: Path) -> State:
    """How far a trial is. What a process that was killed left behind is "interrupted"."""
    if (trial / "summary.json").is_file():
        return "complete"
    if is_locked(trial):
        return "running"
    said = atomic.read_json(trial / "state.json").get("state", "waiting")
    return "interrupted" if said in ("running", "complete") else said


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _usage(trial: Path) -> dict[str, float]:
    used = _numbers(atomic.read_json(trial / "usage.json"))
    return {name: used[name] for name in ("peak_mb", "cpu_s") if name in used}
