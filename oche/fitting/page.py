"""The page of a fit: what you got, how it compares, what was planned and what happened, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.console import format_duration
from oche.fitting.planner import holds
from oche.report.classification_page import assessment_sections
from oche.report.figures import FigureWriter
from oche.report.format_numbers import UNKNOWN, format_count
from oche.report.html.page import Cards, CellContent, Code, Item, Prose, Section, Table, TableCell, render_page
from oche.report.metrics import percent
from oche.report.plots import curves
from oche.report.read_run import RunData, read_run

TITLES = {
    "control-residual": "plain residual network",
    "control-random": "random cell of the space",
    "train": "your network",
}


def write_fit_page(path: Path) -> Path:
    """Write report.html of the fit at ``path`` from its files; return its path."""
    path = path.resolve()
    summary, plan, status = (atomic.read_json(path / f"{name}.json") for name in ("summary", "plan", "status"))
    train = read_run(path / "train")
    runs = {name: read_run(path / name) for name in ("search", *TITLES) if (path / name / "status.json").exists()}
    sections = [
        Section("", [Cards(_cards(summary, plan, train))]),
        Section("How it compares", _comparison(summary), "compare"),
        *([Section("The search", _search(runs["search"]), "search")] if "search" in runs else []),
        Section("Plan and what happened", _plan(plan, summary, train), "plan"),
        Section("Training", _curves(FigureWriter(path / "pictures"), runs), "training"),
        *assessment_sections(FigureWriter(path / "pictures"), list(train.assessments)),
        Section("What to do next", _next(path, train), "next"),
    ]
    notes = [("", str(summary["note"]))] if summary.get("note") else []
    state = str(status.get("state") or "running")
    meaning = {"running": "the network is ready; controls may still be training", "complete": "complete"}.get(
        state, state
    )
    text = render_page(
        path.name,
        sections,
        Path(str(summary.get("data", ""))).name,
        kicker="oche fit",
        state=(state, meaning),
        notes=notes,
    )
    target = path / "report.html"
    atomic.write_bytes(target, text.encode())
    return target


def verdict_line(name: str, control: Mapping[str, Any]) -> str:
    """Return one sentence that says whether the network is better than a control, with the interval and the test."""
    low, high = control["interval"]
    difference = f"{100 * control['difference']:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    tested = f"exact McNemar test on {control['n']:,} images: p = {control['p']:.2g}"
    said = {
        "better": f"Your network is better than the {TITLES[name]}: {difference}; {tested}.",
        "worse": f"Your network is worse than the {TITLES[name]}: {difference}; {tested}. Take that network instead.",
        "undecided": f"Your network is not shown to be better than the {TITLES[name]}: {difference}; {tested}.",
    }
    return said[control["verdict"]]


def _cards(summary: Mapping[str, Any], plan: Mapping[str, Any], train: RunData) -> list[tuple[str, str]]:
    compared = summary.get("comparisons") or {}
    cards = [
        ("weights", format_count(train.number("parameters"))),
        ("time until it was ready", format_duration(_happened(plan, summary))),
    ]
    if not compared:
        return [("test accuracy: all images trained it", UNKNOWN), *cards]
    low, high = compared["interval"]
    return [
        (f"test accuracy on {compared['images']:,} images", percent(compared["accuracy"])),
        ("95 % interval", f"{100 * low:.1f} to {100 * high:.1f} %"),
        *cards,
    ]


def _comparison(summary: Mapping[str, Any]) -> list[Item]:
    compared = summary.get("comparisons") or {}
    controls = compared.get("controls") or {}
    if not controls:
        return [Prose("No control has been trained, so it is not known whether a plain network would do as well.")]
    rows: list[tuple[CellContent, ...]] = [
        (
            "your network",
            _percent(compared["accuracy"]),
            None,
            None,
            TableCell(format_count(summary.get("parameters")), summary.get("parameters")),
        )
    ]
    for name, control in controls.items():
        low, high = control["interval"]
        difference = f"{100 * control['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        weights = TableCell(format_count(control["parameters"]), control["parameters"])
        compared_with = TableCell(difference, control["difference"])
        rows.append((TITLES[name], _percent(control["accuracy"]), compared_with, control["p"], weights))
    lines = [Prose(verdict_line(name, control), "lead") for name, control in controls.items()]
    columns = ("network", "test accuracy", "yours minus this, points", "p", "weights")
    said = (
        "All were trained with the same recipe and tested on the same images. The residual network had the time of search and "
        "training together, the random cell that of the training."
    )
    return [*lines, Table("comparison", columns, rows), Prose(said, "muted")]


def _percent(value: float) -> TableCell:
    return TableCell(percent(value), value)


def _search(run: RunData) -> list[Item]:
    decided, nodes = run.number("decided_nodes"), run.number("nodes")
    said = (
        f"The search decided {decided:.0f} of {nodes:.0f} nodes. " if decided is not None and nodes is not None else ""
    )
    return [Prose(f"{said}Its own page is search/report.html.")]


def _happened(plan: Mapping[str, Any], summary: Mapping[str, Any]) -> float:
    """Return the seconds until the network was ready: planning, search, training, and the predicted closing."""
    stages = summary.get("stage_seconds") or {}
    return plan["spent"] + (stages.get("search") or 0.0) + (stages.get("train") or 0.0) + plan["closing_seconds"]


def _plan(plan: Mapping[str, Any], summary: Mapping[str, Any], train: RunData) -> list[Item]:
    stages, step = summary.get("stage_seconds") or {}, train.number("step_ms")
    epochs = max((record["epoch"] for record in train.records), default=0)
    rows = [
        _row("training step, ms", 1000 * plan["step_seconds"], step),
        _row("epochs of the training", plan["epochs"], epochs),
        _row("training, s", plan["train_seconds"], stages.get("train")),
        *([_row("search, s", plan["search_seconds"], stages.get("search"))] if plan["search_seconds"] else []),
    ]
    columns = ("", "predicted", "happened", "within 25 %")
    return [*map(Prose, plan["why"]), Table("plan", columns, rows)]


def _row(name: str, predicted: float, happened: float | None) -> tuple[str, str, str, str]:
    if not happened:
        return name, f"{predicted:,.3g}", "–", "–"
    return name, f"{predicted:,.4g}", f"{happened:,.4g}", "yes" if holds(predicted, happened) else "no"


def _curves(writer: FigureWriter, runs: Mapping[str, RunData]) -> list[Item]:
    items: list[Item] = []
    for name, run in runs.items():
        if name in TITLES and (epochs := [record for record in run.records if record["epoch"] > 0]):
            plot = curves.learning_curves(epochs, TITLES[name], run.metric)
            items.append(writer.plot(f"{name}-curves", plot, f"Learning curves: {TITLES[name]}"))
    return items


def _next(path: Path, train: RunData) -> list[Item]:
    del train
    where = shlex.quote(path.name)
    lines = [
        f"oche predict {where} FOLDER            classify a folder of images",
        f"oche evaluate {where} --data DATA      measure it on other images",
        f"oche export {where} --int8             a smaller file for a CPU",
        "oche fit DATA --budget 4h --out …      a longer fit",
        f"oche fit DATA --init {where}           a fit that begins with these weights",
    ]
    return [Prose("In the folder that holds this fit:"), Code("\n".join(lines), "next")]
