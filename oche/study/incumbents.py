"""The best of a search so far, against time: from the records that every epoch leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..report.measure import ACCURACY, PERPLEXITY, Measure
from ..report.records import read_run
from ..report.study_plots import Curve
from .groups import Arena

Panels = dict[str, tuple[Measure, dict[str, list[Curve]]]]


def panels(arena: Arena) -> Panels:
    """Panel title → (measure, group → a curve a seed): the incumbent by validation; with a table, what it really reaches.

    Only the table's second panel says how good the incumbent is: validation in the search is the supernet's.
    """
    found: Panels = {}
    for group in arena.groups:
        for row in group.rows:
            records = _records(row.path / "search")
            for measure, title in ((ACCURACY, "validation accuracy of the supernet"), (PERPLEXITY, _PERPLEXITY)):
                best, true = curves(records, measure)
                for name, curve in ((title, best), ("true test accuracy of that incumbent, by the table", true)):
                    if curve:
                        found.setdefault(name, (measure, {}))[1].setdefault(group.name, []).append(curve)
    return found


_PERPLEXITY = "validation perplexity of the supernet"


def curves(records: Sequence[Mapping], measure: Measure) -> tuple[Curve, Curve]:
    """((seconds, best value so far), (seconds, true accuracy of the cell of that epoch)) at every epoch that has the former."""
    best: list[tuple[float, float]] = []
    true: list[tuple[float, float]] = []
    held: float | None = None
    for record in records:
        value, seconds = record.get(f"val_{measure.key}"), record.get("timings", {}).get("seconds")
        if value is None or seconds is None:
            continue
        if not best or measure.better(value, best[-1][1]):
            held = record.get("true_acc")
        best.append((seconds, value if not best or measure.better(value, best[-1][1]) else best[-1][1]))
        if held is not None:
            true.append((seconds, held))
    return best, true


def _records(search: Path) -> Sequence[Mapping]:
    return read_run(search).records if (search / "metrics.jsonl").exists() else ()
