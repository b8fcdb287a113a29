"""What a run directory holds, read with patience: a run may be underway, or have been killed.

Whatever is absent or damaged becomes a line of ``problems`` in plain words; nothing here raises for the contents.
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
from oche.report.metric_names import ACCURACY, PERPLEXITY, Measure
from oche.report.mixture_history import Group, number, parse, read_groups

KNOWN = ("config.yaml", "status.json", "space.json", "metrics.jsonl", "summary.json", "genotype.txt", "toy.json")
ASSESSMENT = "assessment.json"
_NUMBERS = ("step", "progress", "train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc", "eigenvalue")
_NUMBERS += ("true_acc", "regret")  # by a table of NAS-Bench-201
_NUMBERS += ("train_ppl", "val_ppl", "test_ppl")  # of language models
_NUMBERS += ("cost", "cost_found")  # of searches that mind one, see `oche.report.cost_page`


@dataclass(frozen=True)
class Run:
    """One run directory. ``summary``, ``space`` and ``status`` are {} where absent; NaN has become None."""

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
    groups: tuple[Group, ...]
    assessments: tuple[tuple[str, Assessment], ...]
    """by the training itself, and by `oche evaluate` into folders below it"""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def measure(self) -> Measure:
        """What its networks are measured by."""
        text = "vocabulary" in self.space or any(r["val_ppl"] or r["train_ppl"] for r in self.records)
        return PERPLEXITY if text else ACCURACY

    def figure(self, key: str) -> float | None:
        """A number of the summary, or of space.json, or of the last record that has it (time per step, losses …)."""
        for source in (self.summary, self.space):
            if (value := number(source.get(key))) is not None:
                return value
        for record in reversed(self.records):
            for source in (record, record.get("timings", {})):
                if (value := number(source.get(key))) is not None:
                    return value
        return None


def holds_run(path: Path) -> bool:
    """Whether ``path`` has any file of a run, of whatever kind and state; `oche.runs.claim.is_run` asks for one that began."""
    return any((path / name).exists() for name in KNOWN)


def read_run(path: Path) -> Run:
    """Reads the run directory at ``path``; raises `OcheError` only where there is none."""
    if not path.is_dir():
        raise OcheError(f"no run directory at {path}; give one that `oche search`, `oche train` or `oche toy` made")
    if not holds_run(path) and not (path / "toy/toy.json").exists():
        raise OcheError(
            f"{path} is not a run directory: it has none of {', '.join(KNOWN)}; give one that `oche search` made"
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
        _missing(path, kind, config, records, summary, status, problems)
    assessments = _assessments(path, problems)
    return Run(
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
        groups=read_groups(space, records),
        assessments=assessments,
    )


def nested(run: Run) -> tuple[list[Run], list[Run]]:
    """(trainings of the found cell, trainings of random cells) that lie inside ``run``, a training itself included."""
    own = [run] if run.kind == "train" else []
    random: list[tuple[int, Run]] = []
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
        problems.append(f"{name} cannot be read as JSON; what it holds is left out.")
        return {}
    return value


def _assessments(path: Path, problems: list[str]) -> tuple[tuple[str, Assessment], ...]:
    found = []
    for file in [path / ASSESSMENT, *sorted(path.glob(f"evaluation*/{ASSESSMENT}"))]:
        name = path.name if file.parent == path else f"{path.name}, {file.parent.name}"
        try:
            found += [(name, Assessment.from_dict(json.loads(text)))] if (text := _text(file)) is not None else []
        except (ValueError, RecursionError, AttributeError, TypeError) as error:
            problems.append(f"{file.relative_to(path)} cannot be read ({error}); what it holds is left out.")
    return tuple(found)


def _records(path: Path, problems: list[str]) -> tuple[dict[str, Any], ...]:
    """Records by rising epoch; of an epoch written twice (before and after a resume) the later one counts."""
    found: dict[int, dict[str, Any]] = {}
    torn = 0
    for line in (_text(path) or "").splitlines():
        if not line.strip():
            continue
        try:
            raw = _clean(json.loads(line))
        except (ValueError, RecursionError):
            raw = None
        if isinstance(raw, dict) and (epoch := number(raw.get("epoch"))) is not None:
            found[int(epoch)] = _record(raw, int(epoch))
        else:
            torn += 1
    if torn:
        lines = "one line" if torn == 1 else f"{torn} lines"
        problems.append(
            f"metrics.jsonl: {lines} could not be read and were skipped (a run killed while writing leaves one)."
        )
    return tuple(found[epoch] for epoch in sorted(found))


def _record(raw: dict[str, Any], epoch: int) -> dict[str, Any]:
    record: dict[str, Any] = {"epoch": epoch} | {key: number(raw.get(key)) for key in _NUMBERS}
    for key in ("entropy", "skip_share", "timings"):
        inner = raw.get(key)
        known = {str(k): number(v) for k, v in inner.items()} if isinstance(inner, dict) else {}
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
    if genotype := parse(text):
        return text, genotype
    problems.append("genotype.txt is not a genotype; its cells cannot be drawn.")
    return text, None


def _toy(path: Path, problems: list[str]) -> dict[str, Any] | None:
    folder = path if (path / "toy.json").exists() else path / "toy"
    toy = _json(folder, "toy.json", problems)
    if not toy:
        return None
    try:
        runs = [r for r in toy["runs"] if isinstance(r, dict) and number(r.get("xi")) is not None]
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


def _missing(
    path: Path, kind: str, config: str, records: tuple, summary: dict, status: dict, problems: list[str]
) -> None:
    if not status:
        problems.append("status.json is missing: whether the run is still going is not known.")
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
