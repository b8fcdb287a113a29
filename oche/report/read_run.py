"""Read run directories for reports. Runs may be unfinished, and their files absent or damaged.

Every file that is absent or damaged adds a line to ``problems``; no content of a file raises an error.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.analysis.classification import Assessment
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.report.format_numbers import finite_float
from oche.report.metrics import ACCURACY, PERPLEXITY, Metric
from oche.report.mixture_history import MixtureHistory, parse_genotype, read_mixtures

RUN_FILES = ("config.yaml", "status.json", "space.json", "metrics.jsonl", "summary.json", "genotype.txt", "toy.json")
ASSESSMENT = "assessment.json"
_NUMBERS = ("step", "progress", "train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc", "eigenvalue")
_NUMBERS += ("true_acc", "regret")  # by the table of NAS-Bench-201
_NUMBERS += ("train_ppl", "val_ppl", "test_ppl")  # of language models
_NUMBERS += ("cost", "cost_found")  # of searches with a cost, see `oche.report.metrics.CostTarget`


@dataclass(frozen=True)
class RunData:
    """The contents of one run directory. ``summary``, ``space`` and ``status`` are {} where absent; NaN is read as None."""

    path: Path
    kind: str
    state: str
    status: dict[str, Any]
    config: str
    environment: dict[str, Any]
    genotype: Genotype | None
    genotype_text: str
    space: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    summary: dict[str, Any]
    toy: dict[str, Any] | None
    problems: tuple[str, ...]
    mixtures: tuple[MixtureHistory, ...]
    assessments: tuple[tuple[str, Assessment], ...]
    """(name, assessment), written by the training and by `oche evaluate` into directories below it"""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def metric(self) -> Metric:
        """The metric of its networks: perplexity for text, accuracy for images."""
        text = "vocabulary" in self.space or any(r["val_ppl"] or r["train_ppl"] for r in self.records)
        return PERPLEXITY if text else ACCURACY

    def number(self, key: str) -> float | None:
        """Return a number from summary.json, else space.json, else the last record that has it; None where it is unknown."""
        for source in (self.summary, self.space):
            if (value := finite_float(source.get(key))) is not None:
                return value
        for record in reversed(self.records):
            for source in (record, record.get("timings", {})):
                if (value := finite_float(source.get(key))) is not None:
                    return value
        return None

    def chance(self, part: str) -> tuple[float | None, float | None]:
        """Return (balanced accuracy, share of the commonest class) on ``part``, "test" or "val"; None where unknown."""
        own = next((a for name, a in self.assessments if name == self.name and a.part == part), None)
        balanced, majority = self.number(f"{part}_balanced_acc"), self.number(f"{part}_majority")
        if own is not None:  # runs of earlier versions have it only there
            balanced = own.balanced_accuracy if balanced is None else balanced
            majority = own.majority if majority is None else majority
        return balanced, majority


def holds_run(path: Path) -> bool:
    """Whether ``path`` has any file of a run. `oche.runs.claim.is_run` is stricter: it asks for a run that has begun."""
    return any((path / name).exists() for name in RUN_FILES)


def read_run(path: Path) -> RunData:
    """Read the run directory at ``path``. Raises `OcheError` only where there is none."""
    if not path.is_dir():
        raise OcheError(f"no run directory at {path}; give one that `oche search`, `oche train` or `oche toy` made")
    if not holds_run(path) and not (path / "toy/toy.json").exists():
        raise OcheError(
            f"{path} is not a run directory: it has none of {', '.join(RUN_FILES)}; give one that `oche search` made"
        )
    problems: list[str] = []
    status, space = _json(path, "status.json", problems), _json(path, "space.json", problems)
    summary = _json(path, "summary.json", problems)
    toy = _toy(path, problems)
    records = _records(path / "metrics.jsonl", problems)
    kind = _kind(status, summary, records, toy)
    text, genotype = _genotype(path, summary, records, problems)
    config = _text(path / "config.yaml") or ""
    if kind != "toy":
        _note_missing(path, kind, config, records, summary, status, problems)
    assessments = _assessments(path, problems)
    return RunData(
        path=path,
        kind=kind,
        state=str(status.get("state") or "unknown"),
        status=status,
        config=config,
        environment=_json(path, "environment.json", problems),
        genotype=genotype,
        genotype_text=text,
        space=space,
        records=records,
        summary=summary,
        toy=toy,
        problems=tuple(problems),
        mixtures=read_mixtures(space, records),
        assessments=assessments,
    )


def nested_runs(run: RunData) -> tuple[list[RunData], list[RunData]]:
    """Return (trainings of the found cell, trainings of random cells) inside ``run``; a training contains itself."""
    own = [run] if run.kind == "train" else []
    random: list[tuple[int, RunData]] = []
    for child in sorted(p for p in run.path.iterdir() if p.is_dir() and p.name not in ("toy", "pictures")):
        if not holds_run(child):
            continue
        inner = read_run(child)
        if match := re.fullmatch(r"random-(\d+)", child.name):
            random.append((int(match[1]), inner))
        elif inner.kind == "train":
            own.append(inner)
    return own, [inner for _, inner in sorted(random, key=lambda pair: pair[0])]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _clean(value: Any) -> Any:
    """Replace NaN and infinities by None, in nested lists and mappings too."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def _json(path: Path, name: str, problems: list[str]) -> dict[str, Any]:
    text = _text(path / name)
    if text is None:
        return {}
    try:
        value = _clean(json.loads(text))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        problems.append(f"{name} cannot be read as JSON; its content is left out.")
        return {}
    return value


def _assessments(path: Path, problems: list[str]) -> tuple[tuple[str, Assessment], ...]:
    found = []
    for file in [path / ASSESSMENT, *sorted(path.glob(f"evaluation*/{ASSESSMENT}"))]:
        name = path.name if file.parent == path else f"{path.name}, {file.parent.name}"
        try:
            found += [(name, Assessment.from_dict(json.loads(text)))] if (text := _text(file)) is not None else []
        except (ValueError, RecursionError, AttributeError, TypeError) as error:
            problems.append(f"{file.relative_to(path)} cannot be read ({error}); its content is left out.")
    return tuple(found)


def _records(path: Path, problems: list[str]) -> tuple[dict[str, Any], ...]:
    """Return the records by rising epoch. Of an epoch written twice (before and after a resume) the later record counts."""
    found: dict[int, dict[str, Any]] = {}
    unreadable = 0
    for line in (_text(path) or "").splitlines():
        if not line.strip():
            continue
        try:
            raw = _clean(json.loads(line))
        except (ValueError, RecursionError):
            raw = None
        if isinstance(raw, dict) and (epoch := finite_float(raw.get("epoch"))) is not None:
            found[int(epoch)] = _record(raw, int(epoch))
        else:
            unreadable += 1
    if unreadable:
        lines = "one line" if unreadable == 1 else f"{unreadable} lines"
        problems.append(
            f"metrics.jsonl: {lines} could not be read and were skipped (a run killed while writing leaves one)."
        )
    return tuple(found[epoch] for epoch in sorted(found))


def _record(raw: dict[str, Any], epoch: int) -> dict[str, Any]:
    """Return a record with every key that reports use; what is missing or of another type is None or empty."""
    record: dict[str, Any] = {"epoch": epoch} | {key: finite_float(raw.get(key)) for key in _NUMBERS}
    for key in ("entropy", "skip_share", "timings"):
        inner = raw.get(key)
        known = {str(k): finite_float(v) for k, v in inner.items()} if isinstance(inner, dict) else {}
        record[key] = {k: v for k, v in known.items() if v is not None}
    record["arch"] = raw["arch"] if isinstance(raw.get("arch"), dict) else {}
    record["genotype"] = raw["genotype"] if isinstance(raw.get("genotype"), str) else ""
    return record


def _genotype(
    path: Path, summary: dict[str, Any], records: tuple[dict[str, Any], ...], problems: list[str]
) -> tuple[str, Genotype | None]:
    last = next((r["genotype"] for r in reversed(records) if r["genotype"]), "")
    text = (_text(path / "genotype.txt") or str(summary.get("genotype") or "") or last).strip()
    if not text:
        return "", None
    if genotype := parse_genotype(text):
        return text, genotype
    problems.append("genotype.txt is not a genotype; its cells cannot be drawn.")
    return text, None


def _toy(path: Path, problems: list[str]) -> dict[str, Any] | None:
    folder = path if (path / "toy.json").exists() else path / "toy"
    toy = _json(folder, "toy.json", problems)
    if not toy:
        return None
    try:
        runs = [r for r in toy["runs"] if isinstance(r, dict) and finite_float(r.get("xi")) is not None]
        for r in runs:
            r["trajectory"] = [(float(a), float(w)) for a, w in r.get("trajectory") or []]
        for key in ("optimum", "start"):
            a, w = toy.get(key) or ((1, 1) if key == "optimum" else (2, -2))
            toy[key] = (float(a), float(w))
    except (KeyError, TypeError, ValueError):
        problems.append("toy.json does not hold trajectories; the toy experiment is left out.")
        return None
    return toy | {"runs": runs} if runs else None


def _kind(status: dict, summary: dict, records: tuple[dict[str, Any], ...], toy: dict | None) -> str:
    if status.get("kind") in ("search", "train", "toy", "demo"):
        return status["kind"]
    if {"test_acc", "test_ppl"} & {*summary} or any(r["test_acc"] is not None for r in records):
        return "train"
    return "toy" if toy and not records and not summary else "search"


def _note_missing(
    path: Path, kind: str, config: str, records: tuple, summary: dict, status: dict, problems: list[str]
) -> None:
    if not status:
        problems.append("status.json is missing: whether the run is still running is not known.")
    if not config:
        problems.append("config.yaml is missing: the settings of this run are not known.")
    if not (path / "space.json").exists():
        problems.append("space.json is missing: sizes, parameters and the names of edges and operations are not known.")
    if not any(r["epoch"] > 0 for r in records):
        problems.append("No epoch has been recorded yet, so there are no curves.")
    if not summary and status.get("state") == "complete":
        problems.append(
            "summary.json is missing although the run is complete: final numbers are taken from the last epoch."
        )
    if kind == "search" and not any(r["arch"] for r in records):
        problems.append("No architecture weights have been recorded yet, so there is no heat map.")
