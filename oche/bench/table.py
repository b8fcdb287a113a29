"""Measure all works in all forms, and show and write the table of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from oche.bench.interleaved import Result, measure_forms
from oche.bench.settings import BASELINE, FORMS, REFERENCE, WORKS, BenchConfig
from oche.bench.steps import published_code
from oche.core.atomic_files import write_bytes
from oche.core.console import Log
from oche.core.environment import describe_environment
from oche.core.errors import OcheError, plural
from oche.devices.engine import Engine

HEADS = ("work", "form", "ms a step: median (min–max)", "images/s", "memory", "× baseline", "× DARTS")
Results = dict[str, dict[str, Result]]  # by work, by form


@dataclass(frozen=True)
class Line:
    """A row of the table, as text."""

    cells: tuple[str, ...]
    best: bool = False


def run_bench(setting: BenchConfig, out: Path | None, log: Log) -> int:
    """Measure, show the table and write it to ``out``. Returns 1 if a measurement failed, else 0."""
    device = Engine(setting.device).device.type
    if out is not None and out.is_dir():
        raise OcheError(f"--out {out} is a folder; give the name of a file, {out / 'speed.md'} say")
    plan = {work: forms_for(setting, work, device) for work in setting.works}
    results = {work: measure_forms(setting, work, forms, say=log.say) for work, forms in plan.items()}
    show_table(setting, results)
    if out is not None:
        write_bytes(out, markdown(setting, results).encode())
        log.say(f"written: {out}")
    return int(any(result.failed for forms in results.values() for result in forms.values()))


def forms_for(setting: BenchConfig, work: str, device: str) -> tuple[str, ...]:
    """The forms to measure: the published code if a checkout has it, then those of ``setting``, by default all for ``device``."""
    forms = setting.forms or tuple(name for name, form in FORMS.items() if form.device in ("", device))
    has_reference = setting.reference and published_code().folder_for(setting, work)
    return (REFERENCE, *forms) if has_reference else forms


# --- the table --------------------------------------------------------------------------------------------------------


def baseline(forms: dict[str, Result]) -> float | None:
    """Seconds of the step that others are compared with: that of the published code if it ran, else of oche's plain form."""
    return next((m for name in (REFERENCE, BASELINE) if name in forms and (m := forms[name].median)), None)


def table_lines(setting: BenchConfig, results: Results) -> Iterator[Line]:
    darts = baseline(results.get("first", {}))
    for work, forms in results.items():
        base = baseline(forms)
        medians = [m for result in forms.values() if (m := result.median)]
        for form, result in forms.items():
            median = result.median
            if median is None:
                yield Line((work, form, "–", "", "", "", ""))
                continue
            times = f"{_ms(median)} ({_ms(min(result.times))}–{_ms(max(result.times))})"
            memory = "unknown" if result.memory is None else f"{result.memory / 2**30:.2f} GiB"
            against = _ratio(darts, median) if work in ("gdas", "pc-darts") else ""
            cells = (work, form, times, f"{setting.batch / median:.4g}", memory, _ratio(base, median), against)
            yield Line(cells, best=median == min(medians) and len(medians) > 1)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def _ratio(base: float | None, median: float) -> str:
    return "" if base is None else f"{base / median:.2f}"


def show_table(setting: BenchConfig, results: Results) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False, title=describe_machine(setting), title_justify="left")
    for i, head in enumerate(HEADS):
        table.add_column(head, justify="left" if i < 3 else "right", overflow="fold")
    work = ""
    for line in table_lines(setting, results):
        cells = ("" if line.cells[0] == work else line.cells[0], *line.cells[1:])
        table.add_row(*cells, style="bold" if line.best else None)
        work = line.cells[0]
    console.print(table, markup=False)
    console.print(table_notes(setting, results), markup=False, highlight=False)


def describe_machine(setting: BenchConfig) -> str:
    e = describe_environment(setting.device)
    threads = setting.threads or e["threads"]
    return f"{e.get('gpu') or e['cpu']}, {plural(threads, 'thread')}, torch {e['torch']}, commit {e['commit']}, {e['time']}"


def equivalent_command(setting: BenchConfig) -> str:
    """The command with the same settings."""
    words = ["oche bench"]
    for f in fields(BenchConfig):
        value = getattr(setting, f.name)
        if value != f.default:
            if isinstance(value, tuple):  # of checkouts only the names, since paths are private
                value = " ".join(v.name if isinstance(v, Path) else v for v in value)
            words.append(f"--{f.name.replace('_', '-')} {value}")
    return " ".join(words)


def table_notes(setting: BenchConfig, results: Results) -> str:
    n = setting.rounds * setting.steps
    used = {form for forms in results.values() for form in forms}
    text = f"n = {plural(n, 'step')} each, in {plural(setting.rounds, 'round')} of turns; "
    text += "memory: peak, without that of the libraries"
    text += ". × baseline: how many times as fast as " + (
        f"{REFERENCE}, or {BASELINE} if the published code has no such step" if REFERENCE in used else BASELINE
    )
    if {"gdas", "pc-darts"} & results.keys() and "first" in results:
        text += "; × DARTS: as fast as the baseline's first-order step of the whole supernet"
    silent = [f"{w}, {f}: {r.note}" for w, forms in results.items() for f, r in forms.items() if r.note]
    return "\n".join([text + ".", *silent])


def markdown(setting: BenchConfig, results: Results) -> str:
    """The table and its notes as a Markdown page."""
    rows = [HEADS, ("---",) * len(HEADS), *(line.cells for line in table_lines(setting, results))]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    about = {
        REFERENCE: "the published code, its data from memory",
        **{name: form.about for name, form in FORMS.items()},
    }
    used = {form for forms in results.values() for form in forms}
    known = [*((work, WORKS[work]) for work in results), *((form, about[form]) for form in about if form in used)]
    legend = "\n".join(f"- {name}: {text}" for name, text in known)
    said = table_notes(setting, results).split("\n")
    parts = ["# oche bench", describe_machine(setting), f"`{equivalent_command(setting)}`", table, *said, legend]
    return "\n\n".join(parts) + "\n"
