"""Writes a run directory's report: pictures/ (SVG and PNG of each) and one self-contained report.html.

Reads files only, never a search.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.architecture import cell_title
from oche.report import format_text as words
from oche.report.classification_page import assessed
from oche.report.cost_page import Price
from oche.report.figures import Album, inline_cell
from oche.report.html.page import Cards, Cell, Code, Figure, Fold, Heading, Item, Prose, Row, Section, Table, page, slug
from oche.report.plots import curves, toy
from oche.report.read_run import Run, nested, number, read_run
from oche.report.search_page import search_sections

_CLASSES = 20  # names of classes that are listed
_STATES = {
    "running": "still running; this page shows what there was when it was made",
    "interrupted": "interrupted; `oche resume` goes on from the last checkpoint",
    "complete": "complete",
    "failed": "failed",
}
_TIMES = {"started": "started", "updated": "last change"}
_FLOW = (
    "Data flow from left to right. Red boxes are what the cell reads (the outputs of earlier cells), green ones its nodes, by "
    "their numbers in the genotype; each node adds up what its arrows bring. Dashed lines collect the output."
)
_TOY = (
    "Lower level: w descends L_train = w² − 2αw + α², least where w = α. Upper level: α descends L_val = αw − 2α + 1 with w "
    "after one virtual step of length ξ. The solution is (1, 1): ξ = 0 ignores how w follows α and stops elsewhere on the line."
)
# the seed's Table 1: ξ → (iterations, seconds per iteration)
_TABLE_1 = {0.0: (659, 4.4e-4), 0.3: (411, 9.0e-4), 0.5: (296, 9.1e-4), 0.7: (335, 9.3e-4)}


def write_report(run_dir: Path | str) -> Path:
    """Makes the pictures and report.html of a run directory (search, training or toy); returns the page's path.

    Works at any moment of a run: the page says what is missing. Raises `OcheError` where there is no run directory.
    """
    run = read_run(Path(run_dir).resolve())
    trainings, random = nested(run)
    text = page(
        run.name, sections(Album(run.path / "pictures"), run, trainings, random), _when(run),
        kicker=f"oche report · {run.kind}", state=(run.state, _state(run)), notes=_notes([run, *trainings, *random]),
    )  # fmt: skip
    target = run.path / "report.html"
    atomic.write_bytes(target, text.encode())
    return target


def sections(album: Album, run: Run, trainings: list[Run], random: list[Run]) -> list[Section]:
    """The whole page of a run; parts that it has nothing for are left out."""
    searched = run.kind not in ("train", "toy")
    return [
        *_headline(run, trainings, random),
        *([] if run.kind == "toy" else [_cells(album, run)]),
        *([_bought(album, run, trainings, random)] if searched else []),
        *(search_sections(album, run) if searched else []),
        *_trainings(album, run, trainings),
        *assessed(album, [known for r in trainings for known in r.assessments]),
        *_networks(album, run, trainings),
        *_toy(album, run),
        *_numbers(run, trainings, random),
        _details(run),
    ]


# --- the head of the page ---------------------------------------------------------------------------------------------


def _state(run: Run) -> str:
    text, error = _STATES.get(run.state, run.state), run.status.get("error")
    return f"{text}: {error}" if error and run.state == "failed" else text


def _when(run: Run) -> str:
    parts = [f"{what} {words.moment(run.status[key])}" for key, what in _TIMES.items() if run.status.get(key)]
    if epochs := run.records[-1]["epoch"] if run.records else 0:
        parts.append(f"{epochs} epoch{'s' if epochs > 1 else ''} recorded")
    return " · ".join(parts)


def _notes(runs: list[Run]) -> list[tuple[str, str]]:
    """(run, line) of everything that is missing or that a run wants to say."""
    notes = []
    for i, r in enumerate(runs):
        lines = [*r.problems, *([_plain(r.summary["note"])] if r.summary.get("note") else [])]
        notes += [("" if i == 0 else r.name, line) for line in lines]
    return list(dict.fromkeys(notes))


def _headline(run: Run, trainings: list[Run], random: list[Run]) -> list[Section]:
    """The figures at the top; what is not known yet is a dash."""
    if run.kind == "toy":
        return []
    found, measure, price = _found(trainings), run.measure, Price.of(run.space)
    cards = [
        (f"test {measure.name}{' of the found network' if run.kind != 'train' else ''}", measure.text(tested(found)))
    ]
    if run.kind != "train":
        known = [value for r in random if (value := tested(r)) is not None]
        cards.append((f"random cells, mean ± sd (n = {len(known)})", measure.mean_sd(known)))
        cards.append((f"validation {measure.name} in search", measure.text(run.figure(f"val_{measure.key}"))))
        if (true := run.figure("true_acc")) is not None:
            cards.append(("true test accuracy of the cell, by the table", words.percent(true)))
        if price:
            aim = "" if price.target is None else f" (target {price.text(price.target)})"
            cost = run.figure("cost") if run.summary else run.figure("cost_found")
            cards.append((f"{price.name} of the cell's network{aim}", price.text(cost)))
    if found or not price or price.kind != "parameters":
        cards.append(("parameters of the network", words.count(found.figure("parameters") if found else None)))
    cards.append(("search time" if run.kind != "train" else "training time", words.duration(run.figure("seconds"))))
    return [Section("", [Cards(cards)])]


def _found(trainings: list[Run]) -> Run | None:
    return next((r for r in trainings if r.name == "train"), trainings[0] if trainings else None)


def tested(run: Run | None) -> float | None:
    """What a trained network reached in the test."""
    return run.figure(f"test_{run.measure.key}") if run else None


# --- sections ---------------------------------------------------------------------------------------------------------


def _cells(album: Album, run: Run) -> Section:
    title = "The found cell" if run.kind != "train" else "The cell"
    if not run.genotype:
        return Section(
            title, [Prose(f"There is no genotype to draw{' yet' if run.state == 'running' else ''}.")], "cells"
        )
    so_far = " so far" if run.kind != "train" and run.state not in ("complete", "unknown") else ""
    figures = [
        album.cell(f"cell-{slug(name)}", cell, cell_title(name), f"{cell_title(name)}{so_far}")
        for name, cell in run.genotype.cells.items()
    ]
    return Section(title, [Prose(_FLOW), *side_by_side(figures)], "cells")


def side_by_side(figures: list[Figure]) -> list[Item]:
    """``figures`` in a row, or below one another where one is too broad for half a page."""
    if max(figure.width for figure in figures) > 600:
        return [replace(figure, wide=True) for figure in figures]
    return [Row(figures)]


def _bought(album: Album, run: Run, trainings: list[Run], random: list[Run]) -> Section:
    """The found network beside the random ones, whichever way it comes out."""
    found, others, measure = _found(trainings), [v for r in random if (v := tested(r)) is not None], run.measure
    text = words.bought(tested(found), others, measure)
    if len(others) < len(random):
        text += f" {len(random) - len(others)} of {len(random)} random cells have no result yet."
    items: list[Item] = [Prose(text, "lead")]
    if (own := tested(found)) is not None and others:
        drawing = curves.comparison(own, others, measure=measure)
        items.append(album.plot("comparison", drawing, "The found cell beside random cells, trained the same way"))
    cells = [
        inline_cell(cell, f"{r.name}, {cell_title(name)}: {measure.text(tested(r))}")
        for r in random
        for name, cell in (r.genotype.cells.items() if r.genotype else ())
    ]
    return Section(
        "What the search bought", [*items, *([Fold("The random cells", [Row(cells)])] if cells else [])], "bought"
    )


def _trainings(album: Album, run: Run, trainings: list[Run]) -> list[Section]:
    if not trainings:
        return []
    items: list[Item] = []
    for r in trainings:
        if epochs := [record for record in r.records if record["epoch"] > 0]:
            drawing = curves.learning_curves(epochs, f"Training: {r.name}", r.measure)
            items.append(album.plot(f"{slug(r.name)}-curves", drawing, f"Learning curves of {r.name}"))
        else:
            reached = r.measure.text(tested(r))
            items.append(Prose(f"{r.name}: no epoch has been recorded yet (test {r.measure.name}: {reached})."))
    return [Section("Training" + (" the found network" if run.kind != "train" else ""), [Row(items)], "training")]


def _networks(album: Album, run: Run, trainings: list[Run]) -> list[Section]:
    what = [("network-search", "Network searched", run)] if run.kind not in ("train", "toy") else []
    what += [(f"network-{slug(r.name)}", f"Network trained: {r.name}", r) for r in trainings]
    figures = []
    for name, caption, r in what:
        blocks = r.space.get("network")
        if isinstance(blocks, list) and (blocks := [b for b in blocks if isinstance(b, dict)]):
            figures.append(album.network(name, blocks, caption))
    single = run.genotype is not None and all(cell.inputs == 1 for cell in run.genotype.cells.values())
    reads = "output of the block" if single else "outputs of the two blocks"
    said = Prose(f"Each cell reads the {reads} before it. Channels and map size are those of the output.")
    return [Section("Network", [said, *figures], "network")] if figures else []


def _toy(album: Album, run: Run) -> list[Section]:
    if not run.toy:
        return []
    rows = []
    for r in run.toy["runs"]:
        iterations, seconds = _TABLE_1.get(round(r["xi"], 6), (None, None))
        own = number(r.get("iterations"))
        rows.append(
            (
                f"{r['xi']:g}",
                own and int(own),
                iterations,
                _tiny(number(r.get("seconds_per_iteration"))),
                _tiny(seconds),
            )
        )
    columns = ("ξ", "iterations", "published", "time per iteration", "published time")
    drawing = album.plot("toy", toy.toy_trajectories(run.toy), "Bilevel toy problem: descent in the (α, w) plane")
    return [Section("The toy bilevel problem", [Prose(_TOY), Row([drawing, Table("toy", columns, rows)])], "toy")]


def _tiny(seconds: float | None) -> Cell:
    return Cell(words.UNKNOWN if seconds is None else f"{seconds * 1e6:,.0f} µs", seconds)


def _numbers(run: Run, trainings: list[Run], random: list[Run]) -> list[Section]:
    own = [("search", run, "val", "validation")] if run.kind not in ("train", "toy") else []
    known = own + [(r.name, r, "test", "test") for r in (*trainings, *random)]
    columns = ("run", run.measure.name, "parameters", "FLOPs", "steps", "time per step", "total time")
    rows = [(label, *_figures(r, part, what)) for label, r, part, what in known]
    table = Table(f"{slug(run.name)}-numbers", columns, rows)
    space = _space(run)
    return [Section("Numbers", [table, *([Prose(space, "muted")] if space else [])], "numbers")] if rows else []


def _figures(r: Run, part: str, what: str) -> list[Cell]:
    """A run's accuracy or perplexity, parameters, FLOPs, steps, time per step, total time."""
    value, steps = r.figure(f"{part}_{r.measure.key}"), r.figure("steps") or r.figure("step")
    reached = r.measure.text(value)
    shown = {"parameters": words.count, "flops": words.scaled, "step_ms": words.milliseconds, "seconds": words.duration}
    cells = {key: Cell(say(r.figure(key)), r.figure(key)) for key, say in shown.items()}
    return [
        Cell(reached if value is None else f"{reached} {what}", value), cells["parameters"], cells["flops"],
        Cell(words.count(steps), steps), cells["step_ms"], cells["seconds"],
    ]  # fmt: skip


def _space(run: Run) -> str:
    """What was searched or trained, on which images, as it is known."""
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


def _details(run: Run) -> Section:
    facts = {key: _plain(value) for key, value in run.environment.items()}
    width = max(map(len, facts), default=0)
    return Section(
        "To repeat it",
        [
            *([Heading("Genotype"), Code(run.genotype_text, "genotype")] if run.genotype_text else []),
            Fold("Configuration", [Code(run.config)]) if run.config else Prose("config.yaml is not there."),
            Heading("Environment"),
            Code("\n".join(f"{key:<{width}}  {value}" for key, value in facts.items()))
            if facts
            else Prose("environment.json is not there."),
        ],
        "details",
    )


def _plain(value: Any) -> str:
    if value is None:
        return words.UNKNOWN
    return " ".join(str(v) for v in value) if isinstance(value, list) else str(value)
