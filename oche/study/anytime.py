"""What the searches of a study had at each moment, from the records that every epoch leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oche.report.cost_page import Price
from oche.report.metric_names import ACCURACY, PERPLEXITY, Measure
from oche.report.plots.study import Curve, Panel
from oche.report.read_run import Run, read_run
from oche.study.groups import Arena

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
    found: dict[str, tuple[Measure, Grouped]] = {}
    runs = [
        (group.name, read_run(row.path / "search"))
        for group in arena.groups
        for row in group.rows
        if (row.path / "search" / "metrics.jsonl").exists()
    ]
    for name, run in runs:
        for measure, title in _SUPERNET.items():
            best, true = curves(run.records, measure)
            for what, its, curve in ((title, measure, best), (_TRUE, ACCURACY, true)):
                if curve:
                    found.setdefault(what, (its, {}))[1].setdefault(name, []).append(curve)
    return {title: Panel(*panel) for title, panel in found.items()} | _priced(runs)


def _priced(runs: Sequence[tuple[str, Run]]) -> dict[str, Panel]:
    """A panel for each kind of cost that searches mind: that of the network of the cell chosen at each moment."""
    found: dict[str, Panel] = {}
    minded = [(name, run, price) for name, run in runs if (price := Price.of(run.space))]
    for kind in dict.fromkeys(price.kind for _, _, price in minded):
        grouped: Grouped = {}
        targets: dict[float, None] = {}
        for name, run, price in minded:
            if price.kind == kind and (curve := timed(run.records, "cost_found")):
                grouped.setdefault(name, []).append(curve)
                targets |= {} if price.target is None else {price.target: None}
        most = max((v for of in grouped.values() for curve in of for _, v in curve), default=0.0)
        price = Price(kind, None)
        if grouped:
            title = f"{price.name} of the network of the cell chosen then"
            found[title] = Panel(price.measure(max([most, *targets])), grouped, [*targets])
    return found


def timed(records: Sequence[Mapping], key: str) -> Curve:
    """(seconds of the search, value) of the records that have ``key``."""
    times = ((record.get("timings", {}).get("seconds"), record.get(key)) for record in records)
    return [(seconds, value) for seconds, value in times if seconds is not None and value is not None]


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
