"""`oche study report`: report.html, report.md, tables/ of CSV and pictures/ of a study, from its files alone, at any time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.report.figures import Album
from oche.report.html.markdown import csv_text, markdown, tables
from oche.report.html.page import Cards, Section, page
from oche.study.groups import Arena, arenas
from oche.study.nas_checklist_facts import Facts
from oche.study.page_figures import pictures, priced
from oche.study.page_results import results, summed
from oche.study.page_runs import agreement, checklist, cost, details, over_time, trials
from oche.study.ranking import agreements
from oche.study.results import Row, rows
from oche.study.status import summary


def write(study: Path, cells: int = 0, log: Log | None = None, out: Path | None = None) -> Path:
    """Makes the report of the study at ``study`` and returns the page's path. Raises `OcheError` where there is no study.

    ``cells``: with how many cells of a table the supernet of each finished search is tried, unless it was before; 0: none.
    ``out``: the page's path, by default report.html in the study's directory, where all else lies.
    """
    found = rows(study)
    compared = arenas(found)
    known = agreements(found, cells, log or Log(quiet=True))
    album = Album(study / "pictures")
    sections = [
        *_head(found, compared),
        *results(album, compared),
        over_time(album, compared),
        *priced(compared),
        *agreement(album, known, compared),
        cost(compared),
        *pictures(compared),
        trials(found),
        checklist(facts := Facts.of(study, found, compared)),
        details(study, facts),
    ]
    title, subtitle = study.resolve().name, summary(found)
    text = page(title, sections, subtitle, kicker="oche study report")
    for table in tables(sections):
        atomic.write_bytes(study / "tables" / f"{table.name}.csv", csv_text(table).encode())
    atomic.write_bytes(study / "report.md", markdown(title, sections, subtitle).encode())
    target = out or study / "report.html"
    atomic.write_bytes(target, text.encode())
    return target


def _head(found: tuple[Row, ...], compared: tuple[Arena, ...]) -> list[Section]:
    states = Counter(row.state for row in found)
    cards = [
        ("trials finished", f"{states['complete']} of {len(found)}"),
        ("groups", str(sum(len(arena.groups) for arena in compared))),
    ]
    for arena in compared:
        for name, best in [*summed(arena).items()][:1]:
            value = arena.measure.mean_sd([*arena.results[name].values()])
            cards.append((f"{arena.name}: best mean {arena.what}, {name} (n\u00a0=\u00a0{best.n})", value))
    return [Section("", [Cards(cards)])]
