"""Rank correlations of a study's searches with a table: made once a trial, and kept beside it as correlation.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oche.core.console import Log
from oche.core.errors import OcheError
from oche.runs.run import Run
from oche.study.comparison.supernet_ranking import Agreement, correlate
from oche.study.results import Row, about

if TYPE_CHECKING:
    from oche.study.comparison.supernet_ranking import Agreement


@dataclass(frozen=True)
class Agreements:
    """What is known, by the trial's id, and why something is not."""

    by_trial: dict[str, Agreement]
    problems: tuple[str, ...]
    possible: bool
    """whether any search has a table"""


def agreements(rows: Iterable[Row], cells: int, log: Log) -> Agreements:
    """Of every finished search with a table; those that are not there yet are made, with ``cells`` cells, unless that is 0."""
    found: dict[str, Agreement] = {}
    problems: list[str] = []
    able = [row for row in rows if row.state == "complete" and _has_table(row)]
    for row in able:
        path = row.path / "correlation.json"
        try:
            known = Agreement.read(path)
            if known is None and cells:
                known = correlate(Run.open(row.path / "search"), cells, log=log)
                known.save(path)
        except OcheError as error:
            problems.append(f"{row.group}, seed {row.seed}: {error}")
            continue
        found |= {} if known is None else {row.id: known}
    return Agreements(found, tuple(problems), bool(able))


def _has_table(row: Row) -> bool:
    return about(row.path)["search"].get("table") is not None and (row.path / "search" / "summary.json").is_file()
