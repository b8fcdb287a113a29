"""Reports of studies, and their tables by name."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from oche.study.groups import comparisons
from oche.study.nas_checklist import answers
from oche.study.provenance import Provenance
from oche.study.results import trial_results


def results(**groups: dict[int, float | str]) -> dict[tuple[str, int], float | str]:
    return {(name.replace("_", "-"), seed): value for name, of in groups.items() for seed, value in of.items()}


def table(study: Path, name: str) -> dict[str, dict[str, str]]:
    """A table's rows by their first cell."""
    text = (study / "tables" / f"{name}.csv").read_text()
    return {next(iter(row.values())): row for row in csv.DictReader(io.StringIO(text))}


def said(study: Path) -> dict[str, tuple[str, str]]:
    found = trial_results(study)
    return {a.question: (a.said, a.because) for a in answers(Provenance.of(study, found, comparisons(found)))}


def one(found: dict[str, tuple[str, str]], word: str) -> tuple[str, str]:
    (answer,) = [value for question, value in found.items() if word in question]
    return answer
