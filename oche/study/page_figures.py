"""The sections of a study's page that draw its runs (curves, mixtures, cells), and the table of the networks' costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from oche.core.atomic_files import read_json
from oche.methods.catalog import METHODS
from oche.report import comparison_page
from oche.report.comparison_runs import ComparedRun, read_compared_run
from oche.report.format_numbers import format_mean_sd
from oche.report.html.page import CellContent, Section, Table, TableCell
from oche.report.metrics import CostTarget
from oche.report.read_run import holds_run
from oche.study.groups import Comparison, Group

_COST = (
    "Cost of the network of the found cell: mean ± sample standard deviation over finished trials; within: number of trials "
    "whose cell keeps the target."
)


def figure_sections(comparisons: Sequence[Comparison]) -> list[Section]:
    """Learning curves with a panel per group, all mixtures under one slider, all cells; nothing before the first run."""
    found = [
        m for comparison in comparisons for m in _members(comparison, comparison.name if len(comparisons) > 1 else "")
    ]
    return comparison_page.figure_sections(found)


def _members(comparison: Comparison, place: str) -> Iterator[ComparedRun]:
    for group in comparison.groups:
        name = " · ".join(filter(None, (place, group.name)))
        for trial in group.trials:
            run = trial.path / ("search" if group.labels["method"] in METHODS else "train")
            if holds_run(run):
                yield replace(read_compared_run(f"{name} · seed {trial.seed}", run), group=name)


def cost_sections(comparisons: Sequence[Comparison]) -> list[Section]:
    """The table of costs; nothing if no search has a cost."""
    several = len(comparisons) > 1
    rows = [
        (f"{comparison.name}: {group.name}" if several else group.name, *cells)
        for comparison in comparisons
        for group in comparison.groups
        if (cells := _cost_cells(group))
    ]
    columns = ("group", "what", "n", "cost", "target", "within")
    return [Section("Cost of the networks found", [Table("networks", columns, rows, _COST)])] if rows else []


def _cost_cells(group: Group) -> tuple[CellContent, ...]:
    """What, n, cost, target, within; () if the search has no cost, or no result yet."""
    values = [*group.of("search_cost").values()]
    price = next(
        (p for trial in group.trials if (p := CostTarget.of(read_json(trial.path / "search" / "space.json")))), None
    )
    if price is None or not values:
        return ()
    axis, mean = price.metric(max(values)), sum(values) / len(values)
    cost = TableCell(f"{format_mean_sd([axis.scale * v for v in values])}{axis.unit}", mean)
    if price.target is None:
        return price.name, len(values), cost, None, None
    within = sum(value <= price.target for value in values)
    return (
        price.name,
        len(values),
        cost,
        TableCell(price.text(price.target), price.target),
        TableCell(f"{within} of {len(values)}", within),
    )
