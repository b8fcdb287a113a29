"""Writes a run directory's report: pictures/ (SVG and PNG of each) and one self-contained report.html.

Reads files only, never a search. Whatever a file says is escaped; the page loads nothing from anywhere, and says so to
the browser by a content security policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import __version__
from ..arch import Genotype, titled
from ..run import atomic
from . import plots, words
from .album import Album, Picture, inline_cell
from .groups import Group, parse
from .records import Run, nested, number, read_run

_CLASSES = 20  # names of classes that are listed
_FRAMES = 120  # heat maps kept for the slider, evenly spread over the epochs
_STATES = {
    "running": "still running; this page shows what there was when it was made",
    "interrupted": "interrupted; `oche resume` goes on from the last checkpoint",
    "complete": "complete",
    "failed": "failed",
}
_TIMES = {"started": "started", "updated": "last change"}
# the seed's Table 1: ξ → (iterations, seconds per iteration)
_TABLE_1 = {0.0: (659, 4.4e-4), 0.3: (411, 9.0e-4), 0.5: (296, 9.1e-4), 0.7: (335, 9.3e-4)}


def write_report(run_dir: Path | str) -> Path:
    """Makes the pictures and report.html of a run directory (search, training or toy); returns the page's path.

    Works at any moment of a run: the page says what is missing. Raises `OcheError` where there is no run directory.
    """
    run = read_run(Path(run_dir).resolve())
    trainings, random = nested(run)
    album = Album(run.path / "pictures")
    page = {
        "version": __version__,
        "run": run,
        "state": _state(run),
        "times": [(what, words.moment(run.status[key])) for key, what in _TIMES.items() if run.status.get(key)],
        "cards": _cards(run, trainings, random),
        "cells": _cells(album, run),
        "bought": _bought(album, run, trainings, random),
        "search": _search(album, run),
        "training": _trainings(album, trainings),
        "networks": _networks(album, run, trainings),
        "single": run.genotype is not None and all(cell.inputs == 1 for cell in run.genotype.cells.values()),
        "toy": _toy(album, run),
        "table": _table(run, trainings, random),
        "notes": _notes([run, *trainings, *random]),
        "space": _space(run),
        "facts": {key: _plain(value) for key, value in run.environment.items()},
    }
    target = run.path / "report.html"
    atomic.write_bytes(target, _render(page).encode())
    return target


def _render(page: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["css"] = (here / "report.css").read_text(encoding="utf-8")
    environment.globals["js"] = (here / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(page)


def _state(run: Run) -> str:
    text, error = _STATES.get(run.state, run.state), run.status.get("error")
    return f"{text}: {error}" if error and run.state == "failed" else text


def _cards(run: Run, trainings: list[Run], random: list[Run]) -> list[tuple[str, str]]:
    """(what, value) of the figures at the top; what is not known yet is a dash."""
    if run.kind == "toy":
        return []
    found, measure = _found(trainings), run.measure
    cards = [
        (f"test {measure.name}{' of the found network' if run.kind != 'train' else ''}", measure.text(_tested(found)))
    ]
    if run.kind != "train":
        known = [value for r in random if (value := _tested(r)) is not None]
        cards.append((f"random cells, mean ± sd (n = {len(known)})", measure.mean_sd(known)))
        cards.append((f"validation {measure.name} in search", measure.text(run.figure(f"val_{measure.key}"))))
        if (true := run.figure("true_acc")) is not None:
            cards.append(("true test accuracy of the cell, by the table", words.percent(true)))
    cards.append(("parameters of the network", words.count(found.figure("parameters") if found else None)))
    cards.append(("search time" if run.kind != "train" else "training time", words.duration(run.figure("seconds"))))
    return cards


def _found(trainings: list[Run]) -> Run | None:
    return next((r for r in trainings if r.name == "train"), trainings[0] if trainings else None)


def _tested(run: Run | None) -> float | None:
    """What a trained network reached in the test."""
    return run.figure(f"test_{run.measure.key}") if run else None


def _cells(album: Album, run: Run) -> list[Picture]:
    if not run.genotype:
        return []
    so_far = " so far" if run.kind != "train" and run.state not in ("complete", "unknown") else ""
    return [
        album.cell(f"cell-{_safe(name)}", cell, titled(name), f"{titled(name)}{so_far}")
        for name, cell in run.genotype.cells.items()
    ]


def _safe(name: str) -> str:
    """``name`` as a part of a file name and of an id."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[:40] or "cell"


def _bought(album: Album, run: Run, trainings: list[Run], random: list[Run]) -> dict[str, Any] | None:
    """The found network beside the random ones, whichever way it comes out."""
    if run.kind in ("train", "toy"):
        return None
    found, others, measure = _found(trainings), [v for r in random if (v := _tested(r)) is not None], run.measure
    result: dict[str, Any] = {"text": words.bought(_tested(found), others, measure), "picture": None, "random": []}
    if len(others) < len(random):
        result["text"] += f" {len(random) - len(others)} of {len(random)} random cells have no result yet."
    if (own := _tested(found)) is not None and others:
        figure = plots.comparison(own, others, measure=measure)
        result["picture"] = album.plot("comparison", figure, "The found cell beside random cells, trained the same way")
    for r in random:
        for name, cell in r.genotype.cells.items() if r.genotype else ():
            result["random"].append(inline_cell(cell, f"{r.name}, {titled(name)}: {measure.text(_tested(r))}"))
    return result


def _search(album: Album, run: Run) -> dict[str, Any] | None:
    if run.kind in ("train", "toy"):
        return None
    figures: list[Picture] = _truth(album, run)
    epochs = [r for r in run.records if r["epoch"] > 0]
    if epochs:
        figure = plots.learning_curves(epochs, "Search", run.measure)
        figures.append(album.plot("search-curves", figure, "Learning curves of the search"))
    if run.groups:
        history = {group.name: (group.candidates, group.history) for group in run.groups}
        figures.append(album.plot("operations", plots.operation_shares(history), "Mean weight of each operation"))
    sizes = {group.name: len(group.candidates) for group in run.groups}
    if any(r["entropy"] for r in run.records):
        uniform = sizes[run.groups[0].name] if len(set(sizes.values())) == 1 else None
        figures.append(album.plot("entropy", plots.entropy(run.records, uniform), "Entropy of the operation weights"))
    skips = not run.groups or any("skip_connect" in group.candidates for group in run.groups)
    if skips and any(r["skip_share"] for r in run.records):
        figures.append(album.plot("skip-share", plots.skip_share(run.records), "Share of skip connections in the cell"))
    cell = next(iter(run.genotype.cells.values())) if run.genotype else None
    level, reading = words.collapse(run.records, len(cell.edges) if cell else None)
    return {
        "figures": figures,
        "skips": skips,
        "level": level,
        "collapse": reading,
        "decided": words.decided(run.records, sizes),
        "truth": words.truth(run.records, run.figure("true_acc"), run.figure("regret")),
        "evolution": [picture for group in run.groups for picture in _group(album, run, group)],
        "heat": _heat(run),
        "scaled": any(group.scaled for group in run.groups),
    }


def _truth(album: Album, run: Run) -> list[Picture]:
    """The curve that shows collapse, where a table of NAS-Bench-201 was at hand."""
    if not any(r["true_acc"] is not None for r in run.records):
        return []
    figure = plots.truth(run.records, _best(run), "True test accuracy, by the table")
    return [album.plot("truth", figure, "True test accuracy of the cell that the search would choose at each epoch")]


def _best(run: Run) -> float | None:
    known = run.space.get("truth")
    return number(known.get("best")) if isinstance(known, dict) else None


def _group(album: Album, run: Run, group: Group) -> list[Picture]:
    """Files of the heat maps; in the page, the evolution edge by edge (the heat maps there are drawn by its script)."""
    epoch, weights = group.history[-1]
    safe, what = _safe(group.name), "weight × edge weight" if group.scaled else "softmax(α)"
    edges, candidates = group.edges, group.candidates
    title = f"{titled(group.name)}: {what} at epoch {epoch}"
    chosen = _chosen(group, run.genotype)
    album.plot(f"heatmap-{safe}", plots.alpha_heatmap(weights, edges, candidates, title, group.inputs, chosen), title)
    if len(group.history) == 1:
        return []
    title = f"{titled(group.name)}: {what} over epochs"
    album.plot(f"snapshots-{safe}", plots.alpha_snapshots(group.history, edges, candidates, title), title)
    figure = plots.alpha_evolution(group.history, edges, candidates, title)
    return [album.plot(f"evolution-{safe}", figure, f"{title}, edge by edge: rows are target nodes, columns sources")]


def _chosen(group: Group, genotype: Genotype | None) -> list[tuple[int, int]]:
    """(edge, operation) indices that the genotype keeps."""
    cell = genotype.cells.get(group.name) if genotype else None
    edges = {edge: e for e, edge in enumerate(group.edges)}
    return [
        (edges[source, target], group.candidates.index(op))
        for op, source, target in (cell.edges if cell else ())
        if (source, target) in edges and op in group.candidates
    ]


def _heat(run: Run) -> dict[str, Any] | None:
    """What the page's script draws: for every kept epoch the weights of each group and what would be chosen."""
    epochs = sorted({epoch for group in run.groups for epoch, _ in group.history})
    if not epochs:
        return None
    picks = {round(i * (len(epochs) - 1) / (_FRAMES - 1)) for i in range(_FRAMES)}
    kept = [epoch for i, epoch in enumerate(epochs) if i in picks]
    records = {r["epoch"]: r for r in run.records}
    genotypes = {epoch: parse(records[epoch]["genotype"]) if records[epoch]["genotype"] else None for epoch in kept}
    groups = []
    for group in run.groups:
        history = dict(group.history)
        values = [v for weights in history.values() for row in weights for v in row]
        groups.append(
            {
                "name": titled(group.name),
                "edges": [f"{i}→{j}" for i, j in group.edges],
                "candidates": group.candidates,
                "low": round(min(values), 5),
                "high": round(max(values), 5),
                "frames": [[[round(v, 4) for v in row] for row in history.get(epoch, [])] for epoch in kept],
                "chosen": [_chosen(group, genotypes[epoch]) for epoch in kept],
            }
        )
    known = [records[epoch][f"val_{run.measure.key}"] for epoch in kept]
    reached = ["" if value is None else run.measure.text(value, 1).replace("\u00a0", " ") for value in known]
    return {"epochs": kept, "reached": reached, "groups": groups}


def _trainings(album: Album, trainings: list[Run]) -> list[dict[str, Any]]:
    shown = []
    for r in trainings:
        epochs = [record for record in r.records if record["epoch"] > 0]
        picture = None
        if epochs:
            figure = plots.learning_curves(epochs, f"Training: {r.name}", r.measure)
            picture = album.plot(f"{_safe(r.name)}-curves", figure, f"Learning curves of {r.name}")
        shown.append({"run": r, "picture": picture, "what": r.measure.name, "reached": r.measure.text(_tested(r))})
    return shown


def _networks(album: Album, run: Run, trainings: list[Run]) -> list[Picture]:
    what = [("network-search", "Network searched", run)] if run.kind not in ("train", "toy") else []
    what += [(f"network-{_safe(r.name)}", f"Network trained: {r.name}", r) for r in trainings]
    pictures = []
    for name, caption, r in what:
        blocks = r.space.get("network")
        if isinstance(blocks, list) and (blocks := [b for b in blocks if isinstance(b, dict)]):
            pictures.append(album.network(name, blocks, caption))
    return pictures


def _toy(album: Album, run: Run) -> dict[str, Any] | None:
    if not run.toy:
        return None
    rows = []
    for r in run.toy["runs"]:
        published = _TABLE_1.get(round(r["xi"], 6), (None, None))
        seconds = number(r.get("seconds_per_iteration"))
        rows.append(
            (
                f"{r['xi']:g}",
                words.count(number(r.get("iterations"))),
                words.count(published[0]),
                _tiny(seconds),
                _tiny(published[1]),
            )
        )
    picture = album.plot("toy", plots.toy_trajectories(run.toy), "Bilevel toy problem: descent in the (α, w) plane")
    return {"rows": rows, "picture": picture}


def _tiny(seconds: float | None) -> str:
    return words.UNKNOWN if seconds is None else f"{seconds * 1e6:,.0f} µs"


def _table(run: Run, trainings: list[Run], random: list[Run]) -> list[tuple[str, ...]]:
    """Rows (run, accuracy or perplexity, parameters, FLOPs, steps, time per step, total time)."""
    rows = []
    own = [("search", run, "val", "validation")] if run.kind not in ("train", "toy") else []
    for label, r, part, what in own + [(r.name, r, "test", "test") for r in (*trainings, *random)]:
        reached = r.measure.text(r.figure(f"{part}_{r.measure.key}"))
        rows.append(
            (
                label,
                reached if reached == words.UNKNOWN else f"{reached} {what}",
                words.count(r.figure("parameters")),
                words.scaled(r.figure("flops")),
                words.count(r.figure("steps") or r.figure("step")),
                words.milliseconds(r.figure("step_ms")),
                words.duration(r.figure("seconds")),
            )
        )
    return rows


def _space(run: Run) -> str:
    """What was searched or trained, on which images, as far as it is known."""
    space, parts = run.space, []
    if what := space.get("space"):
        parts.append(f"{'recipe' if run.kind == 'train' else 'method'} {what}")
    sides, classes = space.get("image"), space.get("classes")
    if isinstance(sides, list) and sides:
        parts.append("images " + "×".join(str(side) for side in sides))
        if channels := number(space.get("in_channels")):
            parts[-1] += f", {channels:g} channel{'s' if channels != 1 else ''}"
    if isinstance(classes, list) and classes:
        shown = ", ".join(str(c) for c in classes[:_CLASSES]) + (", …" if len(classes) > _CLASSES else "")
        parts.append(f"{len(classes)} classes: {shown}")
    if size := number(space.get("vocabulary")):
        parts.append(f"text of {size:,.0f} different tokens")
    return " · ".join(parts)


def _notes(runs: list[Run]) -> list[tuple[str, str]]:
    """(run, line) of everything that is missing or that a run wants to say."""
    notes = []
    for i, r in enumerate(runs):
        lines = [*r.problems, *([_plain(r.summary["note"])] if r.summary.get("note") else [])]
        notes += [("" if i == 0 else r.name, line) for line in lines]
    return list(dict.fromkeys(notes))


def _plain(value: Any) -> str:
    if value is None:
        return words.UNKNOWN
    return " ".join(str(v) for v in value) if isinstance(value, list) else str(value)
