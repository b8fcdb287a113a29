"""`oche study status`: the trials of a study as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from oche.runs.directory import last_metric
from oche.study.local import Job, best, score
from oche.study.results import Row, rows

_COLOURS = {
    "complete": "green", "stopped": "blue", "running": "cyan", "failed": "red", "interrupted": "yellow",
    "waiting": "bright_black",
}  # fmt: skip


def summary(found: tuple[Row, ...]) -> str:
    """ "12 trials: 9 complete, 3 waiting"."""
    counts = Counter(row.state for row in found)
    return f"{len(found)} trials: {', '.join(f'{counts[state]} {state}' for state in _COLOURS if counts[state])}"


def table(study: Path) -> tuple[str, Table]:
    """What counts the trials and names the best, and a row a trial: id, group, seed, state, progress, result, time, memory.

    Of trials that are not complete, result and time are those so far. Raises `OcheError`.
    """
    found = rows(study)
    jobs = {row.id: Job.at(row.path) for row in found}
    made = Table(box=None, pad_edge=False)
    for column in ("id", "trial", "seed", "state", "done", "result", "time (s)", "memory (MB)"):
        made.add_column(
            column, overflow="fold", justify="left" if column in ("id", "trial", "state", "result") else "right"
        )
    for row in found:
        share, result, seconds = _reached(row) if row.state == "complete" else _so_far(jobs[row.id])
        memory = row.numbers.get("peak_mb")
        made.add_row(
            row.id, escape(row.group), str(row.seed), f"[{_COLOURS[row.state]}]{row.state}[/]", f"{100 * share:.0f} %", result,
            f"{seconds:.0f}" if seconds else "", f"{memory:.0f}" if memory else "",
        )  # fmt: skip
    first = best([*jobs.values()])
    return summary(found) + (f"; best: {first}" if first else ""), made


def _reached(row: Row) -> tuple[float, str, float]:
    return 1.0, score(row.numbers), sum(row.numbers.get(f"{part}_seconds", 0.0) for part in ("search", "train"))


def _so_far(job: Job) -> tuple[float, str, float]:
    """(share that is done, newest accuracy, seconds)."""
    _, share, numbers = job.row_of_progress()
    newest = score(dict(numbers))
    seconds = sum(last_metric(job.path / part).get("timings", {}).get("seconds", 0.0) for part in job.parts)
    return share, f"{newest} so far" if newest else "", seconds


def over(study: Path) -> bool:
    """Whether no trial of the study is waiting, or at work."""
    return not any(row.state in ("waiting", "running", "interrupted") for row in rows(study))
