"""The sections of a study's page that say what it cost, how its searches went, and how it was made."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from oche.analysis import Association, CannotSay
from oche.report.figures import FigureWriter
from oche.report.format_numbers import UNKNOWN, format_mean_sd
from oche.report.html.page import CellContent, Code, Fold, Heading, Item, Prose, Section, Table, TableCell, slug
from oche.report.plots import study as study_plots
from oche.study.anytime import anytime_panels
from oche.study.groups import Comparison, Group
from oche.study.local import TrialJob, format_score
from oche.study.nas_checklist import NOT_KNOWN, answers
from oche.study.provenance import Provenance
from oche.study.results import TrialResult
from oche.study.supernet_ranking import RankAgreements

_COST = (
    "Mean ± sample standard deviation over finished trials. CPU time and peak memory are those of the whole process, retries "
    "included; times depend on what else ran on the machine."
)
_INCUMBENTS = (
    "Best so far against the seconds of the search: a thin line a seed, a thick one their mean. The supernet's validation "
    "accuracy says how the search fared, not how good its cell is."
)
_MINDED = " Below, what the network of the cell chosen at that moment costs."
_AGREEMENT = (
    "Cells drawn from the table, tried with the weights of each finished search: does the supernet put them in the order of "
    "their own trainings? Kendall's τ and Spearman's ρ, 1 for the same order, 0 for none; over seeds mean ± sd."
)
_SUPERNET = "Supernet and stand-alone accuracy"
_HOW = (
    "Whether the supernets rank cells as their own trainings do has not been tried: oche study report DIR --cells 100 tries that "
    "many cells of the table with every search's weights, in minutes a search, and keeps what it finds."
)
_CHECKLIST = (
    "The 14 best practices for research on architecture search by Lindauer and Hutter (JMLR 2020, 1909.02453), by their numbers "
    "there and in our words, as far as the files of this study know the answers."
)


def cost(arenas: Sequence[Arena]) -> Section:
    columns = ("group", "n", "search (s)", "training (s)", "both (s)", "CPU (s)", "peak memory (MB)")
    several = len(arenas) > 1
    rows = [
        (f"{arena.name}: {group.name}" if several else group.name, *_spent(group))
        for arena in arenas
        for group in arena.groups
    ]
    return Section("What it cost", [Table("cost", columns, rows, _COST)])


def _spent(group: Group) -> Iterator[CellContent]:
    done = [trial for trial in group.trials if trial.state == "complete"]
    yield len(done)
    search, train = ([row.numbers.get(f"{part}_seconds") for row in done] for part in ("search", "train"))
    both = [sum(filter(None, pair)) for pair in zip(search, train, strict=True)]
    for values in (search, train, [b for b in both if b]):
        yield _mean_sd([v for v in values if v is not None], 1)
    for name in ("cpu_s", "peak_mb"):
        yield _mean_sd([row.numbers[name] for row in done if name in row.numbers], 1)


def _mean_sd(values: Sequence[float], digits: int) -> TableCell:
    return TableCell(format_mean_sd(values, digits), statistics.fmean(values) if values else None)


def anytime_section(writer: FigureWriter, comparisons: Sequence[Comparison]) -> Section:
    items: list[Item] = []
    for arena in arenas:
        if found := panels(arena):
            drawing = study_plots.incumbents(found, "seconds of the search")
            more = _COST_PANEL if any(panel.metric.key == "cost_found" for panel in found.values()) else ""
            items.append(
                writer.plot(f"incumbents-{slug(comparison.name)}", drawing, f"{comparison.name}: {_INCUMBENTS}{more}")
            )
    return Section("Incumbents over time", items or [Prose("No search has left records yet.")])


# --- supernet beside table --------------------------------------------------------------------------------------------


def ranking_sections(writer: FigureWriter, found: RankAgreements, comparisons: Sequence[Comparison]) -> list[Section]:
    """Rank correlations of supernets with a table; nothing if no search has a table."""
    if not found.by_trial and not found.problems:
        return [Section(_SUPERNET, [Prose(_HOW)])] if found.possible else []
    rows, points = [], {}
    for place, group in ((arena.name, group) for arena in arenas for group in arena.groups):
        if known := [found.by_trial[row.id] for row in group.rows if row.id in found.by_trial]:
            points[group.name] = [pair for a in known for pair in a.ranks]
            taus = _taus([a.association for a in known])
            rows.append((place, group.name, len(known), *taus, len(known[0].cells), known[0].images))
    columns = ("data", "group", "seeds", "Kendall's τ", "Spearman's ρ", "cells", "images")
    items: list[Item] = [Prose(_AGREEMENT)]
    if points:
        drawing = study_plots.rank_agreement(points, "Cells in the supernet and by the table")
        items += [
            Table("rank-correlation", columns, rows),
            writer.plot(
                "agreement",
                drawing,
                "Every point is a cell, by its rank in the supernet of one seed and by the table; on the diagonal both agree",
            ),
        ]
    return [Section(_SUPERNET, [*items, *(Prose(line, "muted") for line in found.problems)])]


def _correlation_cells(found: Sequence[Association | CannotSay]) -> tuple[TableCell, TableCell]:
    known = [a for a in found if isinstance(a, Association)]
    if not known:
        return TableCell(f"cannot say: {found[0]}", None), TableCell(UNKNOWN, None)
    return _mean_sd([a.kendall for a in known], 2), _mean_sd([a.spearman for a in known], 2)


# --- trials, checklist, how to repeat it ------------------------------------------------------------------------------


def trials(rows: Sequence[Row]) -> Section:
    columns = ("group", "seed", "state", "result", "true accuracy (%)", "id", "genotype")
    listed = [
        (row.group, row.seed, row.state, score(row.numbers), _true(row), row.id, row.genotype) for row in rows
    ]  # fmt: skip
    left = [row for row in rows if row.state != "complete"]
    missing = [(row.group, row.seed, row.state, _why(row), row.id) for row in left]
    items: list[Item] = []
    if missing:
        told = f"{len(left)} of {len(rows)} trials are not finished; nothing above counts them."
        items += [Prose(told, "watch"), Table("unfinished", ("group", "seed", "state", "why", "id"), missing)]
    return Section("Trials", [*items, Fold(f"All {len(rows)} trials", [Table("trials", columns, listed)])])


def _why(row: Row) -> str:
    return "" if row.state in ("waiting", "running") else Job.at(row.path).result()


def _true(trial: TrialResult) -> TableCell:
    value = trial.numbers.get("true_acc")
    return TableCell(UNKNOWN if value is None else f"{100 * value:.2f}", value)


def checklist(facts: Facts) -> Section:
    columns = ("practice", "question", "answer", "because", "to state in the paper")
    rows = [
        (a.number, a.question, TableCell("not known" if a.said == NOT_KNOWN else a.said, a.said), a.because, a.state)
        for a in answers(provenance)
    ]
    return Section("Checklist", [Prose(_CHECKLIST), Table("checklist", columns, rows)])


def details(study: Path, facts: Facts) -> Section:
    looked = {"": ("gpu", "cpu"), "torch ": ("torch",), "Python ": ("python",), "oche ": ("oche",)}
    made = " · ".join(what + ", ".join(found) for what, names in looked.items() if (found := facts.distinct(*names)))
    text = (study / "study.yaml").read_text(encoding="utf-8")
    machine: list[Item] = [Heading("Made with"), Prose(made)] if made else []
    return Section("Reproduction", [*machine, Fold("study.yaml", [Code(text, "study")])])
