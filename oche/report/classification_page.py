"""The part of a page that says what a trained network gets right and wrong."""

from __future__ import annotations

from pathlib import Path

from oche.analysis.classification import Assessment
from oche.core import atomic_files as atomic
from oche.report import format_text as words
from oche.report.figures import Album
from oche.report.html.page import Cards, Cell, Fold, Heading, Images, Item, Prose, Row, Section, Table, page, slug
from oche.report.plots import classification as assessment_plots

_PAIRS = 50  # confusions that are listed
_EXPLAINED = (
    "Confusion matrix: rows are what images are, columns what they were taken for. Reliability: a network is calibrated where "
    "of the answers it is 80 % sure of 80 % are right; the expected calibration error is the mean gap, weighted by images."
)


def write_assessed(folder: Path, found: Assessment, what: str) -> Path:
    """Pictures and a page of their own for ``found``, in ``folder``; returns the page's path."""
    section = Section("", items(Album(folder / "pictures"), found, "assessment"), "assessment")
    target = folder / "report.html"
    text = page(what, [section], f"{found.images:,} {found.part} images of {found.data}", kicker="oche evaluate")
    atomic.write_bytes(target, text.encode())
    return target


def assessed(album: Album, known: list[tuple[str, Assessment]]) -> list[Section]:
    """The section for (name, assessment)s; none where there are none."""
    parts: list[Item] = []
    for name, found in known:
        parts += [
            Heading(f"{name}: {found.images:,} {found.part} images of {found.data}"),
            *items(album, found, slug(name)),
        ]
    return [Section("What the network gets wrong", [Prose(_EXPLAINED), *parts], "assessment")] if parts else []


def items(album: Album, found: Assessment, name: str) -> list[Item]:
    """Everything about one assessment; ``name`` begins the names of its pictures and tables."""
    parts: list[Item] = [Cards(_cards(found)), Prose(_calibration(found))]
    pictures = (
        album.plot(f"{name}-confusion", assessment_plots.confusion(found), "Who is taken for whom"),
        album.plot(f"{name}-reliability", assessment_plots.reliability(found), "How far its confidence can be trusted"),
    )
    parts += [Row(pictures), _by_class(found, name)]
    if found.confused:
        parts.append(Fold("The most frequent confusions", [_confusions(found, name)]))
    if shown := [m for m in found.mistakes if m.png]:
        album.plot(f"{name}-mistakes", assessment_plots.mistakes(found), "Most confident mistakes")
        images = [(m.png, assessment_plots.told(found, m)) for m in shown]
        parts += [
            Heading("Its most confident mistakes"),
            Images(images, "Worst first; percentages are the network's own"),
        ]
    return parts


def _cards(found: Assessment) -> list[tuple[str, str]]:
    return [
        (f"{found.part} accuracy", words.percent(found.accuracy)),
        ("expected calibration error", words.percent(found.ece)),
        ("negative log-likelihood (nats)", f"{found.nll:.4f}"),
        ("wrong answers", f"{found.images - round(found.accuracy * found.images):,} of {found.images:,}"),
    ]


def _calibration(found: Assessment) -> str:
    confidence = sum(b.count * b.confidence for b in found.bins if b.confidence is not None) / found.images
    gap = 100 * (confidence - found.accuracy)
    verdict = "about as it should be" if abs(gap) < 0.5 else "over-confident" if gap > 0 else "under-confident"
    return (
        f"On average it was {words.percent(confidence)} sure of its answers, and right in {words.percent(found.accuracy)}: "
        f"{verdict} by {abs(gap):.2f} points."
    )


def _by_class(found: Assessment, name: str) -> Table:
    rows = []
    for k, (label, accuracy, row) in enumerate(zip(found.classes, found.by_class, found.confusion, strict=True)):
        n, other = max(
            ((n, j) for j, n in enumerate(row) if j != k), default=(0, k), key=lambda pair: (pair[0], -pair[1])
        )
        taken = f"{found.classes[other]} ({n})" if n else "–"
        rows.append((label, Cell(words.percent(accuracy), accuracy), sum(row), sum(row) - row[k], taken))
    columns = ("class", "accuracy", "images", "wrong", "most often taken for")
    return Table(
        f"{name}-classes", columns, rows, "Accuracy by class: of the images of a class the share that was right"
    )


def _confusions(found: Assessment, name: str) -> Table:
    pairs = found.confused
    rows = [(found.classes[i], found.classes[j], n) for i, j, n in pairs[:_PAIRS]]
    more = f"; {len(pairs) - _PAIRS} rarer ones are left out" if len(pairs) > _PAIRS else ""
    return Table(f"{name}-confusions", ("is", "taken for", "images"), rows, f"Confusions by frequency{more}")


def compared(known: list[tuple[str, Assessment]]) -> list[Section]:
    """Accuracy by class of several networks, where they are assessed on the same classes."""
    if len(known) < 2 or len({found.classes for _, found in known}) > 1:
        return []
    rows = [
        (label, *(Cell(words.percent(found.by_class[k]), found.by_class[k]) for _, found in known))
        for k, label in enumerate(known[0][1].classes)
    ]
    table = Table(
        "accuracy-by-class", ("class", *(name for name, _ in known)), rows, "Test accuracy by class, a column a run"
    )
    return [Section("What the networks get right", [table], "assessment")]
