"""The sections of a study's page about its runs: cost, incumbents over time, supernet ranking, trials, checklist."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from oche.analysis import RankCorrelation, Undetermined
from oche.core.errors import plural
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
    "Mean ± sample standard deviation over finished trials. Search and training: the steps and what is done between epochs, as a "
    "budget counts them. Process: the whole process, with loading torch and the data, preparation and the final test, retries "
    "included; so are CPU time and peak memory. Times depend on what else ran on the machine."
)
_INCUMBENTS = (
    "Best so far against the seconds of the search: a thin line per seed, a thick line for their mean. The supernet's "
    "validation accuracy shows the progress of the search, not the quality of its cell."
)
_COST_PANEL = " Below: the cost of the network of the current cell."
_AGREEMENT = (
    "Cells drawn from the table, evaluated with the supernet weights of each finished search: does the supernet rank them as "
    "their own trainings do? Kendall's τ and Spearman's ρ: 1 for the same order, 0 for no relation; mean ± sd over seeds."
)
_SUPERNET = "Supernet and stand-alone accuracy"
_HOW = (
    "The supernet ranking of cells was not measured: oche study report DIR --cells 100 evaluates 100 cells of the table with the "
    "weights of each search, in minutes per search, and keeps the results."
)
_CHECKLIST = (
    "The 14 best practices for research on architecture search by Lindauer and Hutter (JMLR 2020, 1909.02453), with its "
    "numbers, in our words, answered as far as the files of this study allow."
)


def cost_section(comparisons: Sequence[Comparison]) -> Section:
    columns = (
        "group", "n", "search (s)", "training (s)", "both (s)", "process (s)", "CPU (s)", "peak memory (MB)",
    )  # fmt: skip
    several = len(comparisons) > 1
    rows = [
        (f"{comparison.name}: {group.name}" if several else group.name, *_spent(group))
        for comparison in comparisons
        for group in comparison.groups
    ]
    return Section("What it cost", [Table("cost", columns, rows, _COST)])


def _spent(group: Group) -> Iterator[CellContent]:
    done = [trial for trial in group.trials if trial.state == "complete"]
    yield len(done)
    search, train = ([trial.numbers.get(f"{part}_seconds") for trial in done] for part in ("search", "train"))
    both = [sum(filter(None, pair)) for pair in zip(search, train, strict=True)]
    for values in (search, train, [b for b in both if b]):
        yield _mean_sd([v for v in values if v is not None], 1)
    for name in ("wall_s", "cpu_s", "peak_mb"):
        yield _mean_sd([trial.numbers[name] for trial in done if name in trial.numbers], 1)


def _mean_sd(values: Sequence[float], digits: int) -> TableCell:
    return TableCell(format_mean_sd(values, digits), statistics.fmean(values) if values else None)


def anytime_section(writer: FigureWriter, comparisons: Sequence[Comparison]) -> Section:
    items: list[Item] = []
    for comparison in comparisons:
        if found := anytime_panels(comparison):
            drawing = study_plots.incumbents(found, "seconds of the search")
            more = _COST_PANEL if any(panel.metric.key == "cost_found" for panel in found.values()) else ""
            items.append(
                writer.plot(f"incumbents-{slug(comparison.name)}", drawing, f"{comparison.name}: {_INCUMBENTS}{more}")
            )
    return Section("Incumbents over time", items or [Prose("No search has left records yet.")])


# --- supernet ranking -------------------------------------------------------------------------------------------------


def ranking_sections(writer: FigureWriter, found: RankAgreements, comparisons: Sequence[Comparison]) -> list[Section]:
    """Rank correlations of supernets with a table; nothing if no search has a table."""
    if not found.by_trial and not found.problems:
        return [Section(_SUPERNET, [Prose(_HOW)])] if found.possible else []
    rows, points = [], {}
    for place, group in ((comparison.name, group) for comparison in comparisons for group in comparison.groups):
        if known := [found.by_trial[trial.id] for trial in group.trials if trial.id in found.by_trial]:
            points[group.name] = [pair for a in known for pair in a.ranks]
            taus = _correlation_cells([a.association for a in known])
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


def _correlation_cells(found: Sequence[RankCorrelation | Undetermined]) -> tuple[TableCell, TableCell]:
    known = [a for a in found if isinstance(a, RankCorrelation)]
    if not known:
        return TableCell(f"cannot say: {found[0]}", None), TableCell(UNKNOWN, None)
    return _mean_sd([a.kendall for a in known], 2), _mean_sd([a.spearman for a in known], 2)


# --- trials, checklist, how to repeat it ------------------------------------------------------------------------------


def trials_section(trials: Sequence[TrialResult]) -> Section:
    columns = ("group", "seed", "state", "result", "true accuracy (%)", "id", "genotype")
    listed = [
        (trial.name, trial.seed, trial.state, format_score(trial.numbers), _true(trial), trial.id, trial.genotype)
        for trial in trials
    ]  # fmt: skip
    left = [trial for trial in trials if trial.state != "complete"]
    missing = [(trial.name, trial.seed, trial.state, _why(trial), trial.id) for trial in left]
    items: list[Item] = []
    if missing:
        told = f"{len(left)} of {plural(len(trials), 'trial')} are not finished; the results above leave them out."
        items += [Prose(told, "watch"), Table("unfinished", ("group", "seed", "state", "why", "id"), missing)]
    return Section("Trials", [*items, Fold(f"All {plural(len(trials), 'trial')}", [Table("trials", columns, listed)])])


def _why(trial: TrialResult) -> str:
    return "" if trial.state in ("waiting", "running") else TrialJob.at(trial.path).describe_outcome()


def _true(trial: TrialResult) -> TableCell:
    value = trial.numbers.get("true_acc")
    return TableCell(UNKNOWN if value is None else f"{100 * value:.2f}", value)


def checklist_section(provenance: Provenance) -> Section:
    columns = ("practice", "question", "answer", "because", "to state in the paper")
    rows = [
        (a.number, a.question, TableCell("not known" if a.said == NOT_KNOWN else a.said, a.said), a.because, a.state)
        for a in answers(provenance)
    ]
    return Section("Checklist", [Prose(_CHECKLIST), Table("checklist", columns, rows)])


def details_section(study: Path, provenance: Provenance) -> Section:
    looked = {"": ("gpu", "cpu"), "torch ": ("torch",), "Python ": ("python",), "oche ": ("oche",)}
    made = " · ".join(
        what + ", ".join(found) for what, names in looked.items() if (found := provenance.distinct(*names))
    )
    text = (study / "study.yaml").read_text(encoding="utf-8")
    machine: list[Item] = [Heading("Made with"), Prose(made)] if made else []
    return Section("Reproduction", [*machine, Fold("study.yaml", [Code(text, "study")])])
