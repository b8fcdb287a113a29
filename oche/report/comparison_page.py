"""One page about several runs: their results, settings, learning curves, architecture weights and cells.

The runs are given one by one, or found below the directory of a comparison or a study. Everything is read from their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oche.core import atomic_files as atomic
from oche.core.errors import plural
from oche.report.classification_page import class_accuracy_sections
from oche.report.comparison_cells import cell_sections
from oche.report.comparison_runs import ComparedRun, find_runs
from oche.report.comparison_tables import headline_cards, result_tables, settings_sections, tested_training
from oche.report.heatmap import heat_maps
from oche.report.html.page import Cards, Code, Figure, Heading, Item, Prose, Row, Section, render_page
from oche.report.plots import small_multiples
from oche.report.read_run import RunData
from oche.report.search_page import READING

_DRAWN = 40  # runs whose cells and weights are drawn, at most; the tables hold all runs
_POINTS = 80  # points of a curve, at most
_GREY = (24, 12_000)  # points of one grey curve, and of all grey curves of a page, at most: the page has to stay small
_NOTES = 40  # at most
_CURVES = (
    "One panel for each group, all with the same axes. Red: held-out data, one line for each run; blue, dashed: training data; "
    "grey: the runs of all other groups, for comparison."
)


def write_comparison(paths: Sequence[Path], out: Path) -> Path:
    """Write the page about the runs at and below ``paths`` to the file ``out``, and return its path.

    Raises `OcheError` where there are fewer than two runs.
    """
    found = find_runs(paths)
    title = paths[0].resolve().name if len(paths) == 1 else f"{len(found)} runs compared"
    groups = len({m.group for m in found})
    subtitle = f"{plural(len(found), 'run')} in {plural(groups, 'group')}; runs of a group differ only in their seed"
    text = render_page(title, page_sections(found), subtitle, kicker="oche report · comparison", notes=_notes(found))
    atomic.write_bytes(out, text.encode())
    return out


def page_sections(found: Sequence[ComparedRun]) -> list[Section]:
    """Return all sections of the page about the runs ``found``."""
    return [
        Section("", [Cards(headline_cards(found))]),
        Section("Numbers", result_tables(found), "numbers"),
        *settings_sections(found),
        *figure_sections(found),
        *_class_accuracy(found),
        Section("Run directories", [Code("\n".join(f"{m.name}: {m.run.path}" for m in found))], "places"),
    ]


def _notes(found: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    notes = [(m.name, line) for m in found for line in m.run.problems]
    metrics = {m.run.metric.name for m in found}
    if len(metrics) > 1:
        notes.insert(0, ("", f"These runs are measured by {' and '.join(sorted(metrics))}, which cannot be compared."))
    if len(found) > _DRAWN:
        text = (
            f"The tables hold all {len(found)} runs; architecture weights and cells are drawn for the first {_DRAWN}."
        )
        notes.insert(0, ("", text))
    return notes[:_NOTES]


# --- figures ------------------------------------------------------------------------------------------------------------


def figure_sections(found: Sequence[ComparedRun]) -> list[Section]:
    """Return learning curves, architecture weights and cells of the runs; pages of studies use them too."""
    drawn = found[:_DRAWN]
    cells = [(m.name, m.run.genotype) for m in drawn if m.run.genotype]
    return [*_curves(found), *_weights(drawn), *cell_sections(cells)]


def _curves(found: Sequence[ComparedRun]) -> list[Section]:
    items: list[Item] = []
    searches = [(m.group, m.run) for m in found if m.run.kind == "search"]
    trainings = [(m.group, r) for m in found for r in ([m.run] if m.run.kind == "train" else m.trainings)]
    for title, known in (("Search", searches), ("Training", trainings)):
        if figures := _panels(title, known):
            items += [Heading(title), Row(figures, small=True)]
    return [Section("Learning curves", [Prose(_CURVES), *items], "curves")] if items else []


def _panels(title: str, known: Sequence[tuple[str, RunData]]) -> list[Figure]:
    """Return one panel of learning curves for each group of ``known``, pairs (group, run)."""
    if not known:
        return []
    metric, key = known[0][1].metric, f"train_{known[0][1].metric.key}"
    held_out = [(group, small_multiples.held_out_curve(r.records, metric)) for group, r in known if r.metric == metric]
    training = [(group, small_multiples.curve_points(r.records, key, metric.scale)) for group, r in known]
    held_out = [(group, points) for group, points in held_out if points]
    training = [(group, points) for group, points in training if points]
    if not held_out + training:
        return []
    limits = small_multiples.axis_limits([points for _, points in held_out + training])
    groups = dict.fromkeys(group for group, _ in held_out + training)
    points_each, points_total = _GREY
    figures = []
    for i, group in enumerate(groups):
        own = [small_multiples.thin(points, _POINTS) for g, points in held_out if g == group]
        own_training = [small_multiples.thin(points, _POINTS) for g, points in training if g == group]
        others = [small_multiples.thin(points, points_each) for g, points in held_out if g != group]
        others = others[:: 1 + len(others) * points_each * len(groups) // points_total]
        plot = small_multiples.group_panel(group, own, own_training, others, limits, metric)
        n = max(len(own), len(own_training))
        figures.append(Figure.of(plot, f"{group}: {plural(n, 'run')}", f"{title}-curves-{i}"))
    return figures


def _weights(found: Sequence[ComparedRun]) -> list[Section]:
    maps = heat_maps([(m.name, m.run) for m in found])
    text = f"The weight of each candidate on each edge; all runs are shown at the same share of their search.{READING}"
    return [Section("Architecture weights", [Prose(text), maps], "heat")] if maps else []


def _class_accuracy(found: Sequence[ComparedRun]) -> list[Section]:
    known = [(m.name, r.assessments[0][1]) for m in found if (r := tested_training(m)) and r.assessments]
    return class_accuracy_sections(known)
