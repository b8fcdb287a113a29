"""The sections of a study's page that draw its runs, as a comparison does: curves, mixtures, cells; and what networks cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from oche.core import atomic_files as atomic
from oche.report.comparison_page import pictures as of_members
from oche.report.comparison_runs import Member, member
from oche.report.cost_page import Price
from oche.report.html.page import Cell, Content, Section, Table
from oche.report.metric_names import spread
from oche.report.read_run import holds_run
from oche.study.groups import Arena, Group

_PRICED = (
    "What the network of the cell that a search found costs: mean ± sample standard deviation over finished trials; within: "
    "trials whose cell keeps the target."
)


def pictures(arenas: Sequence[Arena]) -> list[Section]:
    """Learning curves a panel a group, all mixtures under one slider, every cell beside the first; nothing before a run began."""
    found = [m for arena in arenas for m in _members(arena, arena.name if len(arenas) > 1 else "")]
    return of_members(found)


def _members(arena: Arena, place: str) -> Iterator[Member]:
    for group in arena.groups:
        name = " · ".join(filter(None, (place, group.name)))
        for row in group.rows:
            run = row.path / ("train" if group.control else "search")
            if holds_run(run):
                yield replace(member(f"{name} · seed {row.seed}", run), group=name)


def priced(arenas: Sequence[Arena]) -> list[Section]:
    """The table of costs; nothing where no search minds one."""
    several = len(arenas) > 1
    rows = [
        (f"{arena.name}: {group.name}" if several else group.name, *cells)
        for arena in arenas
        for group in arena.groups
        if (cells := _priced(group))
    ]
    columns = ("group", "what", "n", "cost", "target", "within")
    return [Section("Cost of the networks found", [Table("networks", columns, rows, _PRICED)])] if rows else []


def _priced(group: Group) -> tuple[Content, ...]:
    """What, n, cost, target, within; () where nothing is minded, or nothing known yet."""
    values = [*group.of("search_cost").values()]
    price = next(
        (p for row in group.rows if (p := Price.of(atomic.read_json(row.path / "search" / "space.json")))), None
    )
    if price is None or not values:
        return ()
    axis, mean = price.measure(max(values)), sum(values) / len(values)
    cost = Cell(f"{spread([axis.scale * v for v in values])}{axis.unit}", mean)
    if price.target is None:
        return price.name, len(values), cost, None, None
    within = sum(value <= price.target for value in values)
    return (
        price.name,
        len(values),
        cost,
        Cell(price.text(price.target), price.target),
        Cell(f"{within} of {len(values)}", within),
    )
