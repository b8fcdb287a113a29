"""The report of one run directory: figures (SVG and PNG) in pictures/, and one self-contained report.html.

Everything is read from the files of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.architecture import cell_title
from oche.core.blocks import is_chain
from oche.core.errors import plural
from oche.report.block_latencies import known_latencies
from oche.report.classification_page import BALANCED, MAJORITY, assessment_sections
from oche.report.figures import FigureWriter, inline_cell, side_by_side
from oche.report.findings import search_gain
from oche.report.format_numbers import (
    UNKNOWN,
    finite_float,
    format_count,
    format_duration,
    format_milliseconds,
    format_scaled,
    format_time,
)  # fmt: skip
from oche.report.html.page import (
    Cards,
    Code,
    Fold,
    Heading,
    Item,
    Prose,
    Row,
    Section,
    Table,
    TableCell,
    render_page,
    slug,
)  # fmt: skip
from oche.report.metrics import CostTarget, percent
from oche.report.plots import curves, toy
from oche.report.read_run import RunData, nested_runs, read_run
from oche.report.search_page import search_sections

_CLASSES = 20  # names of classes that are listed, at most
_STATES = {
    "running": "still running; this page shows the state when it was written",
    "interrupted": "interrupted; `oche resume` continues from the last checkpoint",
    "complete": "complete",
    "failed": "failed",
}
_TIMES = {"started": "started", "updated": "last change"}
_CELLS = (
    "Data flow from left to right. Red boxes are the inputs of the cell (the outputs of earlier cells), green boxes its nodes, "
    "numbered as in the genotype; each node is the sum of its incoming edges. Dashed lines lead to the output."
)
_CHAIN = (
    "The blocks of the network in order; kN is the kernel of the depthwise convolution, eN the expansion, the number below a "
    "block its channels, /2 its stride. Colours are kernels, and a block is as high as its expansion is large. A dash is a layer "
    "that the search left out. A bar below a block is its latency, where the search measured it."
)
_TOY = (
    "Lower level: w descends L_train = w² − 2αw + α², which is least at w = α. Upper level: α descends L_val = αw − 2α + 1, with "
    "w after one virtual step of length ξ. The solution is (1, 1). With ξ = 0 the update of α ignores that w depends on α, and "
    "ends at another point of the line w = α."
)
# the seed's Table 1: ξ → (iterations, seconds per iteration)
_TABLE_1 = {0.0: (659, 4.4e-4), 0.3: (411, 9.0e-4), 0.5: (296, 9.1e-4), 0.7: (335, 9.3e-4)}


def write_report(run_dir: Path | str) -> Path:
    """Write the figures and report.html of a run directory (search, training or toy); return the path of the page.

    The run may be in any state: the page says what is missing. Raises `OcheError` where there is no run directory.
    """
    run = read_run(Path(run_dir).resolve())
    trainings, random = nested_runs(run)
    text = render_page(
        run.name, page_sections(FigureWriter(run.path / "pictures"), run, trainings, random), _subtitle(run),
        kicker=f"oche report · {run.kind}", state=(run.state, _state(run)), notes=_notes([run, *trainings, *random]),
    )  # fmt: skip
    target = run.path / "report.html"
    atomic.write_bytes(target, text.encode())
    return target


def refresh_reports(folder: Path) -> list[Path]:
    """Write the reports anew of the runs that hold the directory ``folder``, or are it, if they have one; return their paths.

    A training lies in the directory of its search, and an evaluation in that of its training, whose pages show them.
    """
    folder, made = folder.resolve(), []
    for place in (folder, *folder.parents):
        if not (place / "status.json").exists():
            if place == folder:  # such as the folder of an evaluation
                continue
            break
        if (place / "report.html").exists():
            made.append(write_report(place))
    return made


def page_sections(writer: FigureWriter, run: RunData, trainings: list[RunData], random: list[RunData]) -> list[Section]:
    """Return all sections of a run's page; a section without content is left out.

    ``trainings``: of the found cell; ``random``: of random cells.
    """
    is_search = run.kind not in ("train", "toy")
    return [
        *_headline(run, trainings, random),
        *([] if run.kind == "toy" else [_cells(writer, run)]),
        *([_gain(writer, run, trainings, random)] if is_search else []),
        *(search_sections(writer, run) if is_search else []),
        *_trainings(writer, run, trainings),
        *assessment_sections(writer, [known for r in trainings for known in r.assessments]),
        *_networks(writer, run, trainings),
        *_toy(writer, run),
        *_numbers(run, trainings, random),
        _reproduction(run),
    ]


def result_on_test(run: RunData | None) -> float | None:
    """Return the test accuracy or perplexity of a training; None where it is not known."""
    return run.number(f"test_{run.metric.key}") if run else None


# --- the head of the page ---------------------------------------------------------------------------------------------


def _state(run: RunData) -> str:
    text, error = _STATES.get(run.state, run.state), run.status.get("error")
    return f"{text}: {error}" if error and run.state == "failed" else text


def _subtitle(run: RunData) -> str:
    parts = [f"{label} {format_time(run.status[key])}" for key, label in _TIMES.items() if run.status.get(key)]
    if epochs := run.records[-1]["epoch"] if run.records else 0:
        parts.append(f"{plural(epochs, 'epoch')} recorded")
    return " · ".join(parts)


def _notes(runs: list[RunData]) -> list[tuple[str, str]]:
    """Return (run, line) of all problems and notes; the first run is the page's own and has no name there."""
    notes = []
    for i, r in enumerate(runs):
        lines = [*r.problems, *(_plain(r.summary["note"]).split("; ") if r.summary.get("note") else [])]
        notes += [("" if i == 0 else r.name, line) for line in lines]
    return list(dict.fromkeys(notes))


def _headline(run: RunData, trainings: list[RunData], random: list[RunData]) -> list[Section]:
    """Return the numbers at the top of the page; a number that is not known yet is a dash."""
    if run.kind == "toy":
        return []
    found, metric, cost = _found(trainings), run.metric, CostTarget.of(run.space)
    of_search = run.kind != "train"
    cards = [(f"test {metric.name}{' of the found network' if of_search else ''}", metric.text(result_on_test(found)))]
    cards += _chance_cards(found, "test")
    if of_search:
        known = [value for r in random if (value := result_on_test(r)) is not None]
        cards.append((f"random cells, mean ± sd (n = {len(known)})", metric.mean_sd(known)))
        cards.append((f"validation {metric.name} in the search", metric.text(run.number(f"val_{metric.key}"))))
        if (majority := run.number("val_majority")) is not None:
            cards.append((f"{MAJORITY} in the validation half", percent(majority)))
        if (true := run.number("true_acc")) is not None:
            cards.append(("true test accuracy of the cell, by the table", percent(true)))
        if cost:
            target = "" if cost.target is None else f" (target {cost.text(cost.target)})"
            value = run.number("cost") if run.summary else run.number("cost_found")
            cards.append((f"{cost.name} of the final network{target}", cost.text(value)))
    if found or not cost or cost.kind != "parameters":
        cards.append(("parameters of the network", format_count(found.number("parameters") if found else None)))
    cards.append(("search time" if of_search else "training time", format_duration(run.number("seconds"))))
    return [Section("", [Cards(cards)])]


def _chance_cards(found: RunData | None, part: str) -> list[tuple[str, str]]:
    """Return balanced accuracy and the share of the commonest class, as far as they are known."""
    known = zip((BALANCED, MAJORITY), found.chance(part) if found else (), strict=False)
    return [(name, percent(share)) for name, share in known if share is not None]


def _found(trainings: list[RunData]) -> RunData | None:
    """Return the training of the found cell that counts: the one in train/, else the first."""
    return next((r for r in trainings if r.name == "train"), trainings[0] if trainings else None)


# --- sections ---------------------------------------------------------------------------------------------------------


def _cells(writer: FigureWriter, run: RunData) -> Section:
    title = "The found cell" if run.kind != "train" else "The cell"
    if not run.genotype:
        text = f"There is no genotype to draw{' yet' if run.state == 'running' else ''}."
        return Section(title, [Prose(text)], "cells")
    so_far = " so far" if run.kind != "train" and run.state not in ("complete", "unknown") else ""
    latencies = known_latencies(run)
    figures = [
        writer.cell(f"cell-{slug(name)}", cell, cell_title(name), f"{cell_title(name)}{so_far}", latencies)
        for name, cell in run.genotype.cells.items()
    ]
    return Section(title, [Prose(_CHAIN if is_chain(run.genotype) else _CELLS), *side_by_side(figures)], "cells")


def _gain(writer: FigureWriter, run: RunData, trainings: list[RunData], random: list[RunData]) -> Section:
    """Compare the found network with the networks of random cells."""
    found, metric = result_on_test(_found(trainings)), run.metric
    results = [value for r in random if (value := result_on_test(r)) is not None]
    text = search_gain(found, results, metric)
    if len(results) < len(random):
        text += f" {len(random) - len(results)} of {plural(len(random), 'random cell')} have no result yet."
    items: list[Item] = [Prose(text, "lead")]
    if found is not None and results:
        plot = curves.found_and_random(found, results, metric=metric)
        items.append(writer.plot("comparison", plot, "The found cell and random cells, trained the same way"))
    cells = [
        inline_cell(cell, f"{r.name}, {cell_title(name)}: {metric.text(result_on_test(r))}")
        for r in random
        for name, cell in (r.genotype.cells.items() if r.genotype else ())
    ]
    folded = [Fold("The random cells", [Row(cells)])] if cells else []
    return Section("Gain over random cells", [*items, *folded], "gain")


def _trainings(writer: FigureWriter, run: RunData, trainings: list[RunData]) -> list[Section]:
    if not trainings:
        return []
    items: list[Item] = []
    for r in trainings:
        if epochs := [record for record in r.records if record["epoch"] > 0]:
            plot = curves.learning_curves(epochs, f"Training: {r.name}", r.metric)
            items.append(writer.plot(f"{slug(r.name)}-curves", plot, f"Learning curves of {r.name}"))
        else:
            result = r.metric.text(result_on_test(r))
            items.append(Prose(f"{r.name}: no epoch has been recorded yet (test {r.metric.name}: {result})."))
    title = "Training" + (" of the found network" if run.kind != "train" else "")
    return [Section(title, [Row(items)], "training")]


def _networks(writer: FigureWriter, run: RunData, trainings: list[RunData]) -> list[Section]:
    of_search = [("network-search", "Network of the search", run)] if run.kind not in ("train", "toy") else []
    figures = []
    for name, caption, r in (*of_search, *((f"network-{slug(r.name)}", f"Network: {r.name}", r) for r in trainings)):
        blocks = r.space.get("network")
        if isinstance(blocks, list) and (blocks := [b for b in blocks if isinstance(b, dict)]):
            figures.append(writer.network(name, blocks, caption))
    single = run.genotype is not None and all(cell.inputs == 1 for cell in run.genotype.cells.values())
    inputs = "output of the block" if single else "outputs of the two blocks"
    text = Prose(f"Each cell reads the {inputs} before it. Channels and map size are those of the output.")
    return [Section("Network", [text, *figures], "network")] if figures else []


def _toy(writer: FigureWriter, run: RunData) -> list[Section]:
    if not run.toy:
        return []
    rows = []
    for r in run.toy["runs"]:
        published, published_time = _TABLE_1.get(round(r["xi"], 6), (None, None))
        own = finite_float(r.get("iterations"))
        own_time = finite_float(r.get("seconds_per_iteration"))
        rows.append(
            (f"{r['xi']:g}", own and int(own), published, _microseconds(own_time), _microseconds(published_time))
        )
    columns = ("ξ", "iterations", "published", "time per iteration", "published time")
    plot = toy.toy_trajectories(run.toy)
    figure = writer.plot("toy", plot, "Bilevel toy problem: gradient descent in the (α, w) plane")
    return [Section("The toy bilevel problem", [Prose(_TOY), Row([figure, Table("toy", columns, rows)])], "toy")]


def _microseconds(seconds: float | None) -> TableCell:
    return TableCell(UNKNOWN if seconds is None else f"{seconds * 1e6:,.0f} µs", seconds)


def _numbers(run: RunData, trainings: list[RunData], random: list[RunData]) -> list[Section]:
    own = [("search", run, "val", "validation")] if run.kind not in ("train", "toy") else []
    known = own + [(r.name, r, "test", "test") for r in (*trainings, *random)]
    columns = ("run", run.metric.name, "parameters", "FLOPs", "steps", "time per step", "total time")
    rows = [(label, *_row(r, key, part)) for label, r, key, part in known]
    table = Table(f"{slug(run.name)}-numbers", columns, rows)
    setting = _setting(run)
    return [Section("Numbers", [table, *([Prose(setting, "muted")] if setting else [])], "numbers")] if rows else []


def _row(r: RunData, key: str, part: str) -> list[TableCell]:
    """Return accuracy or perplexity on ``part`` (``key`` in records), parameters, FLOPs, steps, time per step and total."""
    value, steps = r.number(f"{key}_{r.metric.key}"), r.number("steps") or r.number("step")
    shown = r.metric.text(value)
    formats = {
        "parameters": format_count,
        "flops": format_scaled,
        "step_ms": format_milliseconds,
        "seconds": format_duration,
    }
    cells = {name: TableCell(say(r.number(name)), r.number(name)) for name, say in formats.items()}
    return [
        TableCell(shown if value is None else f"{shown} {part}", value), cells["parameters"], cells["flops"],
        TableCell(format_count(steps), steps), cells["step_ms"], cells["seconds"],
    ]  # fmt: skip


def _setting(run: RunData) -> str:
    """Write the method or recipe and the data, as far as space.json has them."""
    space, parts = run.space, []
    if name := space.get("space"):
        parts.append(f"{'recipe' if run.kind == 'train' else 'method'} {name}")
    sides, classes = space.get("image"), space.get("classes")
    if isinstance(sides, list) and sides:
        parts.append("images " + "×".join(str(side) for side in sides))
        if channels := finite_float(space.get("in_channels")):
            parts[-1] += f", {channels:g} channel{'s' if channels != 1 else ''}"
    if isinstance(classes, list) and classes:
        shown = ", ".join(str(c) for c in classes[:_CLASSES]) + (", …" if len(classes) > _CLASSES else "")
        parts.append(f"{plural(len(classes), 'class')}: {shown}")
    if size := finite_float(space.get("vocabulary")):
        parts.append(f"text of {size:,.0f} different tokens")
    return " · ".join(parts)


def _reproduction(run: RunData) -> Section:
    facts = {key: _plain(value) for key, value in run.environment.items() if not isinstance(value, dict)}
    width = max(map(len, facts), default=0)
    lines = "\n".join(f"{key:<{width}}  {value}" for key, value in facts.items())
    items: list[Item] = [Heading("Genotype"), Code(run.genotype_text, "genotype")] if run.genotype_text else []
    items.append(Fold("Configuration", [Code(run.config)]) if run.config else Prose("config.yaml is missing."))
    items += [Heading("Environment"), Code(lines) if facts else Prose("environment.json is missing.")]
    return Section("Reproduction", items, "details")


def _plain(value: Any) -> str:
    if value is None:
        return UNKNOWN
    return " ".join(str(v) for v in value) if isinstance(value, list) else str(value)
