"""The incumbents of a study's searches over time, from the records of each epoch."""

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


def anytime_panels(comparison: Comparison) -> dict[str, Panel]:
    """Panels by title: the supernet's validation of the incumbent, its true accuracy by the table, its cost.

    The last two are there for searches with a table and for searches with a cost. Only the table says how good the incumbent
    is, since the validation in the search is that of the supernet.
    """
    found: dict[str, tuple[Metric, Grouped]] = {}
    runs = [
        (group.name, read_run(trial.path / "search"))
        for group in comparison.groups
        for trial in group.trials
        if (trial.path / "search" / "metrics.jsonl").exists()
    ]
    for name, run in runs:
        for metric, title in _SUPERNET.items():
            best, true = incumbent_curves(run.records, metric)
            for what, its, curve in ((title, metric, best), (_TRUE, ACCURACY, true)):
                if curve:
                    found.setdefault(what, (its, {}))[1].setdefault(name, []).append(curve)
    return {title: Panel(*panel) for title, panel in found.items()} | _cost_panels(runs)


def _cost_panels(runs: Sequence[tuple[str, RunData]]) -> dict[str, Panel]:
    """A panel for each kind of cost that searches limit: the cost of the network of the current cell over time."""
    found: dict[str, Panel] = {}
    limited = [(name, run, cost) for name, run in runs if (cost := CostTarget.of(run.space))]
    for kind in dict.fromkeys(cost.kind for _, _, cost in limited):
        grouped: Grouped = {}
        targets: dict[float, None] = {}
        for name, run, cost in limited:
            if cost.kind == kind and (curve := values_over_time(run.records, "cost_found")):
                grouped.setdefault(name, []).append(curve)
                targets |= {} if cost.target is None else {cost.target: None}
        most = max((v for of in grouped.values() for curve in of for _, v in curve), default=0.0)
        cost = CostTarget(kind, None)
        if grouped:
            title = f"{cost.name} of the network of the current cell"
            found[title] = Panel(cost.metric(max([most, *targets])), grouped, [*targets])
    return found


def values_over_time(records: Sequence[Mapping], key: str) -> Curve:
    """The points (seconds of the search, value) of the records that have ``key``."""
    times = ((record.get("timings", {}).get("seconds"), record.get(key)) for record in records)
    return [(seconds, value) for seconds, value in times if seconds is not None and value is not None]


def incumbent_curves(records: Sequence[Mapping], metric: Metric) -> tuple[Curve, Curve]:
    """Two curves over the seconds of the search: the best value so far, and the true accuracy of the cell of that epoch."""
    best: list[tuple[float, float]] = []
    true: list[tuple[float, float]] = []
    incumbent_acc: float | None = None
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
