"""`oche study report`: write report.html, report.md, tables/ (CSV) and pictures/ of a study, from its files, at any time."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

from oche.analysis import pairwise
from oche.core.atomic_files import write_bytes
from oche.core.console import Log
from oche.core.errors import plural
from oche.report.figures import FigureWriter
from oche.report.html.markdown import csv_text, markdown, tables
from oche.report.html.page import Cards, Section, render_page
from oche.report.statistics_text import is_significant
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


def write_study_report(study: Path, cells: int = 0, log: Log | None = None, out: Path | None = None) -> Path:
    """Write the report of the study at ``study``; return the path of the page. Raises `OcheError` if there is no study.

    ``cells``: number of cells of a table to evaluate in the supernet of each finished search that has no rank correlation
    yet; 0: none. ``out``: path of the page, by default report.html in the study's directory. All other files go there too.
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
        write_bytes(study / "tables" / f"{table.name}.csv", csv_text(table).encode())
    write_bytes(study / "report.md", markdown(title, sections, subtitle).encode())
    target = out or study / "report.html"
    write_bytes(target, text.encode())
    return target


def _head(found: tuple[TrialResult, ...], compared: tuple[Comparison, ...]) -> list[Section]:
    states = Counter(trial.state for trial in found)
    cards = [
        ("trials finished", f"{states['complete']} of {len(found)}"),
        ("groups", str(sum(len(comparison.groups) for comparison in compared))),
    ]
    for comparison in compared:
        for name, best in [*summarise_groups(comparison).items()][:1]:
            value = comparison.metric.mean_sd([*comparison.results[name].values()])
            told = _first_place(comparison, name)
            cards.append((f"{comparison.name}: {told} (n\u00a0=\u00a0{best.n})", value))
    return [Section("", [Cards(cards)])]


def _first_place(comparison: Comparison, name: str) -> str:
    """Write what the group ``name``, which has the best mean, is ahead of."""
    means = {group: statistics.fmean(values.values()) for group, values in comparison.results.items()}
    tied = [group for group, mean in means.items() if mean == means[name]]
    if len(tied) > 1:
        return f"best mean {comparison.what}, the same for {len(tied)} of {len(means)} groups"
    others = [p for p in pairwise(comparison.results) if name in (p.a, p.b) and not is_significant(p)]
    if not others:
        return f"best mean {comparison.what}, {name}"
    which = f"{len(others)} of {plural(len(means) - 1, 'other group')}"
    return f"highest mean {comparison.what}, of {name}; not shown to be better than {which}"
