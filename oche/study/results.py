"""The trials of a study and their results, read from its directory alone, at any time.

OUT/study.yaml             the study, complete            OUT/trials.json             ids of its trials, in order
OUT/trials/ID/trial.json   the trial's configuration      OUT/trials/ID/state.json    its state
OUT/trials/ID/search/, train/   its runs                  OUT/trials/ID/summary.json  its results, once it is complete
OUT/trials/ID/log.txt      output of its processes        OUT/trials/ID/usage.json    their memory and time
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oche.core.atomic_files import read_json
from oche.core.errors import OcheError
from oche.core.lock import is_locked

State = Literal["waiting", "running", "complete", "failed", "interrupted", "stopped"]  # stopped early: others do better


@dataclass(frozen=True)
class TrialResult:
    """One trial. Accuracies are shares of 1, times are in seconds, memory is in MB (2^20 bytes)."""

    id: str
    group: str
    """text shared with the trials of other seeds and no others, such as "beta-darts · darts · digits" """
    name: str
    """the method, and the settings in which it differs from other trials of the study, such as "beta-darts" """
    labels: dict[str, str]
    """method, space, data, and the settings in which the trials of the study differ"""
    seed: int
    state: State
    path: Path
    """the trial's directory"""
    numbers: dict[str, float]
    """final training: test_acc or val_acc (test_ppl, val_ppl), parameters, flops, train_seconds; search: search_val_acc,
    search_seconds, search_steps, and search_cost if it has a cost penalty; with a table: true_acc, regret; processes: peak_mb,
    wall_s, cpu_s. Seconds of a search and a training are those of `oche.core.budget`, wall_s is the time of whole processes"""
    genotype: str | None


def trial_ids(study: Path) -> list[str]:
    """The ids of a study's trials, in order. Raises `OcheError` if there is no study."""
    if not (study / "study.yaml").is_file():
        raise OcheError(f"{study} is no study: it has no study.yaml; give a directory that oche study made")
    return [str(name) for name in read_json(study / "trials.json").get("trials", [])]


def trial_results(study: Path) -> tuple[TrialResult, ...]:
    """All trials of the study at ``study``, finished or not, in the order of its file. Raises `OcheError`."""
    return tuple(trial_result(study / "trials" / name) for name in trial_ids(study))


def trial_result(trial: Path) -> TrialResult:
    """The trial in the directory ``trial``."""
    tree, summary = read_trial_file(trial), read_json(trial / "summary.json")
    return TrialResult(
        id=tree["id"], group=tree["group"], name=tree.get("name", tree["group"]), labels=tree["labels"], seed=tree["seed"],
        state=trial_state(trial), path=trial,
        numbers={**_numbers(summary), **_usage(trial)}, genotype=summary.get("genotype"),
    )  # fmt: skip


def read_trial_file(trial: Path) -> dict[str, Any]:
    """Return the content of trial.json. Raises `OcheError` if there is none."""
    if tree := read_json(trial / "trial.json"):
        return tree
    raise OcheError(f"{trial} is no trial: it has no trial.json; run oche study FILE again, which writes it")


def trial_state(trial: Path) -> State:
    """The state of a trial; "interrupted" if its process was killed."""
    if (trial / "summary.json").is_file():
        return "complete"
    if is_locked(trial):
        return "running"
    noted = read_json(trial / "state.json").get("state", "waiting")
    return "interrupted" if noted in ("running", "complete") else noted


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _usage(trial: Path) -> dict[str, float]:
    used = _numbers(read_json(trial / "usage.json"))
    return {name: used[name] for name in ("peak_mb", "wall_s", "cpu_s") if name in used}
