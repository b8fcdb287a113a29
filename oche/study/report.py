"""`oche study report`: report.html, report.md, tables/ of CSV and pictures/ of a study, from its files alone, at any time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.report.figures import FigureWriter
from oche.report.html.markdown import csv_text, markdown, tables
from oche.report.html.page import Cards, Section, render_page
from oche.study.groups import Comparison, comparisons
from oche.study.page_figures import cost_sections, figure_sections
from oche.study.page_results import result_sections, summarise_groups
from oche.study.page_runs import (
    anytime_section,
    checklist_section,
    cost_section,
    details_section,
    ranking_sections,
    trials_section,
)
from oche.study.provenance import Provenance
from oche.study.results import TrialResult, trial_results
from oche.study.status import count_states
from oche.study.supernet_ranking import rank_agreements


def write(study: Path, cells: int = 0, log: Log | None = None, out: Path | None = None) -> Path:
    """Makes the report of the study at ``study`` and returns the page's path. Raises `OcheError` where there is no study.

    ``cells``: with how many cells of a table the supernet of each finished search is tried, unless it was before; 0: none.
    ``out``: the page's path, by default report.html in the study's directory, where all else lies.
    """
    found = trial_results(study)
    compared = comparisons(found)
    known = rank_agreements(found, cells, log or Log(quiet=True))
    writer = FigureWriter(study / "pictures")
    sections = [
        *_head(found, compared),
        *result_sections(writer, compared),
        anytime_section(writer, compared),
        *cost_sections(compared),
        *ranking_sections(writer, known, compared),
        cost_section(compared),
        *figure_sections(compared),
        trials_section(found),
        checklist_section(provenance := Provenance.of(study, found, compared)),
        details_section(study, provenance),
    ]
    title, subtitle = study.resolve().name, count_states(found)
    text = render_page(title, sections, subtitle, kicker="oche study report")
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
    for comparison in compared:
        for name, best in [*summarise_groups(comparison).items()][:1]:
            value = comparison.metric.mean_sd([*comparison.results[name].values()])
            cards.append((f"{comparison.name}: best mean {comparison.what}, {name} (n\u00a0=\u00a0{best.n})", value))
    return [Section("", [Cards(cards)])]
