"""One page about several runs: their numbers, settings, curves, mixtures and cells beside one another.

For runs given one by one, or for all below the directory of a comparison or a study. Reads files only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oche.core import atomic_files as atomic
from oche.report.classification_page import compared
from oche.report.comparison_cells import compared_cells
from oche.report.comparison_runs import Member, members
from oche.report.comparison_tables import cards, numbers, settings, trained
from oche.report.heatmap import heat
from oche.report.html.page import Cards, Code, Figure, Heading, Item, Prose, Row, Section, page
from oche.report.plots import small_multiples as multiples
from oche.report.read_run import Run
from oche.report.search_page import READING

_DRAWN = 40  # runs whose cells and mixtures are drawn: the rest are in the tables
_POINTS = 80  # of a curve
_GREY = (24, 12_000)  # points of a curve in the background, and of all of them in all panels: the page is to stay small
_CURVES = (
    "A panel a group, on common axes. Red: held-out data, a line a run; blue, dashed: training data; grey: the runs of all other "
    "groups, for comparison."
)


def write_comparison(paths: Sequence[Path], out: Path) -> Path:
    """Writes the page about the runs at and below ``paths`` to the file ``out``. Raises `OcheError` for fewer than two runs."""
    found = members(paths)
    title = paths[0].resolve().name if len(paths) == 1 else f"{len(found)} runs compared"
    groups = len({m.group for m in found})
    said = f"{len(found)} runs in {groups} group{'s' * (groups > 1)}; runs of a group differ in their seed alone"
    text = page(title, sections(found), said, kicker="oche report · comparison", notes=_notes(found))
    atomic.write_bytes(out, text.encode())
    return out


def sections(found: Sequence[Member]) -> list[Section]:
    """Everything that the page says of the runs."""
    return [
        Section("", [Cards(cards(found))]),
        Section("Numbers", numbers(found), "numbers"),
        *settings(found),
        *pictures(found),
        *_mistakes(found),
        Section("Where they are", [Code("\n".join(f"{m.name}: {m.run.path}" for m in found))], "places"),
    ]


def _notes(found: Sequence[Member]) -> list[tuple[str, str]]:
    notes = [(m.name, line) for m in found for line in m.run.problems]
    kinds = {m.run.measure.name for m in found}
    if len(kinds) > 1:
        notes.insert(0, ("", f"These runs are measured by {' and '.join(sorted(kinds))}, which cannot be compared."))
    if len(found) > _DRAWN:
        notes.insert(0, ("", f"Tables hold all {len(found)} runs; mixtures and cells are drawn of the first {_DRAWN}."))
    return notes[:40]


# --- pictures ---------------------------------------------------------------------------------------------------------


def pictures(found: Sequence[Member]) -> list[Section]:
    """Learning curves, mixtures and cells; others may put sections of their own around them."""
    drawn = found[:_DRAWN]
    cells = [(m.name, m.run.genotype) for m in drawn if m.run.genotype]
    return [*_curves(found), *_mixtures(drawn), *compared_cells(cells)]


def _curves(found: Sequence[Member]) -> list[Section]:
    items: list[Item] = []
    searches = [(m.group, m.run) for m in found if m.run.kind == "search"]
    trainings = [(m.group, r) for m in found for r in ([m.run] if m.run.kind == "train" else m.trainings)]
    for title, known in (("Search", searches), ("Training", trainings)):
        if figures := _panels(title, known):
            items += [Heading(title), Row(figures, small=True)]
    return [Section("Learning curves", [Prose(_CURVES), *items], "curves")] if items else []


def _panels(title: str, known: Sequence[tuple[str, Run]]) -> list[Figure]:
    if not known:
        return []
    measure = known[0][1].measure
    held = [(group, multiples.held(r.records, measure)) for group, r in known if r.measure == measure]
    training = [(group, multiples.curve(r.records, f"train_{measure.key}", measure.scale)) for group, r in known]
    held, training = ([(group, points) for group, points in curves if points] for curves in (held, training))
    if not held + training:
        return []
    frame = multiples.limits([points for _, points in held + training])
    groups = dict.fromkeys(group for group, _ in held + training)
    each, total = _GREY
    figures = []
    for i, group in enumerate(groups):
        own, own_training = (
            [multiples.thin(points, _POINTS) for g, points in curves if g == group] for curves in (held, training)
        )
        others = [multiples.thin(points, each) for g, points in held if g != group]
        others = others[:: 1 + len(others) * each * len(groups) // total]
        drawing = multiples.panel(group, own, own_training, others, frame, measure)
        n = max(len(own), len(own_training))
        figures.append(Figure.of(drawing, f"{group}: {n} run{'s' * (n > 1)}", f"{title}-curves-{i}"))
    return figures


def _mixtures(found: Sequence[Member]) -> list[Section]:
    maps = heat([(m.name, m.run) for m in found])
    said = f"The weight of each candidate on each edge, of all runs at the same share of their search.{READING}"
    return [Section("How the searches decided", [Prose(said), maps], "heat")] if maps else []


def _mistakes(found: Sequence[Member]) -> list[Section]:
    known = [(m.name, r.assessments[0][1]) for m in found if (r := trained(m)) and r.assessments]
    return compared(known)
