"""`oche study status`: the trials of a study as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table

from .local import Job, score
from .rows import Row, rows

_COLOURS = {
    "complete": "green", "stopped": "blue", "running": "cyan", "failed": "red", "interrupted": "yellow",
    "waiting": "bright_black",
}  # fmt: skip


def summary(found: tuple[Row, ...]) -> str:
    """ "12 trials: 9 complete, 3 waiting"."""
    counts = Counter(row.state for row in found)
    return f"{len(found)} trials: {', '.join(f'{counts[state]} {state}' for state in _COLOURS if counts[state])}"


def table(study: Path) -> tuple[str, Table]:
    """A line that counts, and a row a trial: id, group, seed, state, progress, result, time, memory. Raises `OcheError`."""
    found = rows(study)
    made = Table(box=None, pad_edge=False)
    for column in ("id", "trial", "seed", "state", "done", "result", "time (s)", "memory (MB)"):
        made.add_column(
            column, overflow="fold", justify="left" if column in ("id", "trial", "state", "result") else "right"
        )
    for row in found:
        seconds = sum(row.numbers.get(f"{part}_seconds", 0.0) for part in ("search", "train"))
        share = 1.0 if row.state == "complete" else Job.at(row.path).row_of_progress()[1]
        memory = row.numbers.get("peak_mb")
        made.add_row(
            row.id, row.group, str(row.seed), f"[{_COLOURS[row.state]}]{row.state}[/]", f"{100 * share:.0f} %",
            score(row.numbers), f"{seconds:.0f}" if seconds else "", f"{memory:.0f}" if memory else "",
        )  # fmt: skip
    return summary(found), made
