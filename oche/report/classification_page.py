"""The section of a page about a classifier's errors: by class, by confidence, and the most confident mistakes."""

from __future__ import annotations

from pathlib import Path

from oche.analysis.classification import Assessment
from oche.core import atomic_files as atomic
from oche.core.errors import plural
from oche.report.figures import FigureWriter
from oche.report.html.page import (
    Cards,
    Fold,
    Heading,
    Images,
    Item,
    Prose,
    Row,
    Section,
    Table,
    TableCell,
    render_page,
    slug,
)  # fmt: skip
from oche.report.metrics import percent
from oche.report.plots import classification as plots

BALANCED, MAJORITY = "balanced accuracy (mean over classes)", "share of the commonest class"
_PAIRS = 50  # confusions that are listed, at most
_EXPLAINED = (
    "Confusion matrix: rows are true classes, columns predicted classes. Reliability: a network is calibrated if 80 % of the "
    "answers given with a confidence of 80 % are right. The expected calibration error is the mean gap between confidence and "
    "accuracy, weighted by images."
)


def write_assessment_page(folder: Path, found: Assessment, title: str) -> Path:
    """Write report.html and pictures/ about ``found`` into the directory ``folder``; return the path of the page."""
    section = Section("", assessment_items(FigureWriter(folder / "pictures"), found, "assessment"), "assessment")
    target = folder / "report.html"
    text = render_page(
        title, [section], f"{plural(found.images, f'{found.part} image')} of {found.data}", kicker="oche evaluate"
    )
    atomic.write_bytes(target, text.encode())
    return target


def assessment_sections(writer: FigureWriter, known: list[tuple[str, Assessment]]) -> list[Section]:
    """Return the section about ``known``, pairs (name, assessment); no section where there are none."""
    items: list[Item] = []
    for name, found in known:
        items.append(Heading(f"{name}: {plural(found.images, f'{found.part} image')} of {found.data}"))
        items += assessment_items(writer, found, slug(name))
    return [Section("Classification errors", [Prose(_EXPLAINED), *items], "assessment")] if items else []


def assessment_items(writer: FigureWriter, found: Assessment, name: str) -> list[Item]:
    """Return numbers, figures and tables of one assessment; ``name`` begins the names of its figures and tables."""
    figures = (
        writer.plot(f"{name}-confusion", plots.confusion_matrix(found), "Confusion matrix"),
        writer.plot(f"{name}-reliability", plots.reliability_diagram(found), "Reliability: accuracy by confidence"),
    )
    items: list[Item] = [Cards(_cards(found)), Prose(_calibration(found)), Row(figures), _by_class(found, name)]
    if found.confused:
        items.append(Fold("The most frequent confusions", [_confusions(found, name)]))
    if shown := [m for m in found.mistakes if m.png]:
        writer.plot(f"{name}-mistakes", plots.mistakes(found), "Most confident mistakes")
        images = [(m.png, plots.mistake_text(found, m)) for m in shown]
        items.append(Heading("The most confident mistakes"))
        items.append(
            Images(
                images,
                "Most confident first: predicted class and true class, each with the probability given by the network",
            )
        )
    return items


def _cards(found: Assessment) -> list[tuple[str, str]]:
    return [
        (f"{found.part} accuracy", percent(found.accuracy)),
        (BALANCED, percent(found.balanced_accuracy)),
        (MAJORITY, percent(found.majority)),
        ("expected calibration error", percent(found.ece)),
        ("negative log-likelihood (nats)", f"{found.nll:.4f}"),
        ("wrong answers", f"{found.images - round(found.accuracy * found.images):,} of {found.images:,}"),
    ]


def _calibration(found: Assessment) -> str:
    """Compare mean confidence and accuracy."""
    confidence = sum(b.count * b.confidence for b in found.bins if b.confidence is not None) / found.images
    gap = 100 * (confidence - found.accuracy)
    verdict = "well calibrated" if abs(gap) < 0.5 else "over-confident" if gap > 0 else "under-confident"
    return (
        f"The mean confidence is {percent(confidence)} and the accuracy {percent(found.accuracy)}: {verdict}, with a gap of "
        f"{abs(gap):.2f} points."
    )


def _by_class(found: Assessment, name: str) -> Table:
    rows = []
    for k, (label, accuracy, row) in enumerate(zip(found.classes, found.by_class, found.confusion, strict=True)):
        wrong = [(n, j) for j, n in enumerate(row) if j != k]
        n, other = max(wrong, default=(0, k), key=lambda pair: (pair[0], -pair[1]))
        mistaken = f"{found.classes[other]} ({n})" if n else "–"
        rows.append((label, TableCell(percent(accuracy), accuracy), sum(row), sum(row) - row[k], mistaken))
    columns = ("class", "accuracy", "images", "wrong", "most often taken for")
    return Table(f"{name}-classes", columns, rows, "Accuracy by class: the share of a class's images that is right")


def _confusions(found: Assessment, name: str) -> Table:
    pairs = found.confused
    rows = [(found.classes[i], found.classes[j], n) for i, j, n in pairs[:_PAIRS]]
    more = f"; {len(pairs) - _PAIRS} rarer ones are left out" if len(pairs) > _PAIRS else ""
    return Table(f"{name}-confusions", ("true class", "taken for", "images"), rows, f"Confusions by frequency{more}")


def class_accuracy_sections(known: list[tuple[str, Assessment]]) -> list[Section]:
    """Return a table of accuracy by class, one column for each network; none unless two or more have the same classes."""
    if len(known) < 2 or len({found.classes for _, found in known}) > 1:
        return []
    rows = [
        (label, *(TableCell(percent(found.by_class[k]), found.by_class[k]) for _, found in known))
        for k, label in enumerate(known[0][1].classes)
    ]
    columns = ("class", *(name for name, _ in known))
    table = Table("accuracy-by-class", columns, rows, "Test accuracy by class, one column for each run")
    return [Section("Accuracy by class", [table], "assessment")]
