"""`oche study status`: the trials of a study as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table
from rich.text import Text

from oche.core.errors import plural
from oche.core.terminal_tables import fitted_table
from oche.runs.directory import last_metric
from oche.study.local import TrialJob, format_score, standing
from oche.study.results import TrialResult, trial_results

_COLOURS = {
    "complete": "green", "stopped": "blue", "running": "cyan", "failed": "red", "interrupted": "yellow",
    "waiting": "bright_black",
}  # fmt: skip


def count_states(found: tuple[TrialResult, ...]) -> str:
    """ "12 trials: 9 complete, 3 waiting"."""
    counts = Counter(trial.state for trial in found)
    states = ", ".join(f"{counts[state]} {state}" for state in _COLOURS if counts[state])
    return f"{plural(len(found), 'trial')}: {states}"


_HEAD = ("trial", "seed", "state", "done", "result", "steps (s)", "process (s)", "memory (MB)", "id")
_IMPORTANT = ("trial", "seed", "state", "result", "done", "process (s)", "steps (s)", "id")


def status_table(study: Path, width: int = 1000) -> tuple[str, Table]:
    """Return a line that counts the trials and names the best, and a table with one row per trial, as wide as ``width`` allows.

    The columns are name, seed, state, progress, result, the time of its steps (of search and training, as a budget counts it),
    the time of its processes as a whole, memory and id; for unfinished trials those so far. Raises `OcheError`.
    """
    found = trial_results(study)
    jobs = {trial.id: TrialJob.at(trial.path) for trial in found}
    rows = []
    for trial in found:
        share, result, seconds = _final(trial) if trial.state == "complete" else _so_far(jobs[trial.id])
        whole, memory = trial.numbers.get("wall_s"), trial.numbers.get("peak_mb")
        rows.append([
            Text(trial.name), str(trial.seed), Text(trial.state, _COLOURS[trial.state]), f"{100 * share:.0f} %", result,
            *(f"{value:.0f}" if value else "" for value in (seconds, whole, memory)), trial.id,
        ])  # fmt: skip
    first = standing([*jobs.values()])
    made, _ = fitted_table(_HEAD, rows, _IMPORTANT, width, left=("state", "result"))
    return count_states(found) + (f"; {': '.join(first)}" if first else ""), made


def _final(trial: TrialResult) -> tuple[float, str, float]:
    return (
        1.0,
        format_score(trial.numbers),
        sum(trial.numbers.get(f"{part}_seconds", 0.0) for part in ("search", "train")),
    )


def _so_far(job: TrialJob) -> tuple[float, str, float]:
    """Share of the work that is done, newest result, seconds."""
    _, share, numbers = job.progress_row()
    newest = format_score(dict(numbers))
    seconds = sum(last_metric(job.path / part).get("timings", {}).get("seconds", 0.0) for part in job.parts)
    return share, f"{newest} so far" if newest else "", seconds


def all_ended(study: Path) -> bool:
    """Whether no trial of the study waits or runs."""
    return not any(trial.state in ("waiting", "running", "interrupted") for trial in trial_results(study))
