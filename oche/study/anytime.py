"""What the searches of a study had at each moment, from the records that every epoch leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oche.report.metrics import ACCURACY, PERPLEXITY, CostTarget, Metric
from oche.report.plots.study import Curve, Panel
from oche.report.read_run import RunData, read_run
from oche.study.groups import Comparison

Grouped = dict[str, list[Curve]]
_SUPERNET = {
    ACCURACY: "validation accuracy of the supernet",
    PERPLEXITY: "validation perplexity of the supernet",
}
_TRUE = "true test accuracy of that incumbent, by the table"


def panels(arena: Arena) -> dict[str, Panel]:
    """By title: the incumbent by validation; with a table, what it really reaches; of searches that mind it, the cost.

    Only the table's panel says how good the incumbent is: validation in the search is the supernet's.
    """
    found: dict[str, tuple[Metric, Grouped]] = {}
    runs = [
        (group.name, read_run(row.path / "search"))
        for group in arena.groups
        for row in group.rows
        if (row.path / "search" / "metrics.jsonl").exists()
    ]
    for name, run in runs:
        for metric, title in _SUPERNET.items():
            best, true = incumbent_curves(run.records, metric)
            for what, its, curve in ((title, metric, best), (_TRUE, ACCURACY, true)):
                if curve:
                    found.setdefault(what, (its, {}))[1].setdefault(name, []).append(curve)
    return {title: Panel(*panel) for title, panel in found.items()} | _priced(runs)


def _cost_panels(runs: Sequence[tuple[str, RunData]]) -> dict[str, Panel]:
    """A panel for each kind of cost that searches limit: the cost of the network of the current cell over time."""
    found: dict[str, Panel] = {}
    limited = [(name, run, cost) for name, run in runs if (cost := CostTarget.of(run.space))]
    for kind in dict.fromkeys(cost.kind for _, _, cost in limited):
        grouped: Grouped = {}
        targets: dict[float, None] = {}
        for name, run, price in minded:
            if price.kind == kind and (curve := timed(run.records, "cost_found")):
                grouped.setdefault(name, []).append(curve)
                targets |= {} if price.target is None else {price.target: None}
        most = max((v for of in grouped.values() for curve in of for _, v in curve), default=0.0)
        cost = CostTarget(kind, None)
        if grouped:
            title = f"{cost.name} of the network of the current cell"
            found[title] = Panel(cost.metric(max([most, *targets])), grouped, [*targets])
    return found


def timed(records: Sequence[Mapping], key: str) -> Curve:
    """(seconds of the search, value) of the records that have ``key``."""
    times = ((record.get("timings", {}).get("seconds"), record.get(key)) for record in records)
    return [(seconds, value) for seconds, value in times if seconds is not None and value is not None]


def incumbent_curves(records: Sequence[Mapping], metric: Metric) -> tuple[Curve, Curve]:
    """Two curves over the seconds of the search: the best value so far, and the true accuracy of the cell of that epoch."""
    best: list[tuple[float, float]] = []
    true: list[tuple[float, float]] = []
    held: float | None = None
    for record in records:
        value, seconds = record.get(f"val_{metric.key}"), record.get("timings", {}).get("seconds")
        if value is None or seconds is None:
            continue
        better = not best or metric.better(value, best[-1][1])
        if better:
            incumbent_acc = record.get("true_acc")
        best.append((seconds, value if better else best[-1][1]))
        if incumbent_acc is not None:
            true.append((seconds, incumbent_acc))
    return best, true
