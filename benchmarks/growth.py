"""How time and memory of a search step grow with batch, channels, cells, nodes and candidates, and where the time goes.

    python benchmarks/growth.py --threads 2 --out benchmarks/results/DATE_growth_cpu
    python benchmarks/growth.py --base.batch 8 --batch 4 8 16 --forms plain native --rounds 3

One size at a time is changed around a base; at every point the forms are timed in turns, as in `oche bench`. OUT.json has all
numbers (the same line measures only the missing points), OUT.svg the plot, OUT.md the tables: points, growth, and the kernels
of a step at the base.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from oche.bench.interleaved import measure_forms
from oche.bench.settings import BenchConfig
from oche.bench.table import describe_machine, equivalent_command
from oche.core.atomic_files import read_json, write_bytes
from oche.core.errors import OcheError
from oche.report.plots.style import SERIES, new_figure, styled, svg

AXES = ("batch", "channels", "cells", "nodes", "candidates")
Points = dict[str, dict[str, dict[str, Any]]]  # by size ("batch=8,channels=16,…"), by form: Result as a dictionary


@dataclass(frozen=True)
class Growth:
    out: Path
    """path of the files, without their suffixes"""
    base: BenchConfig = field(
        default_factory=lambda: BenchConfig(works=("first",), batch=16, channels=16, cells=8, nodes=4, candidates=8)
    )
    """the sizes around which one at a time is changed; the first of its works is timed"""
    forms: tuple[str, ...] = ("plain-nchw", "plain", "native")
    """forms to time, as in oche bench"""
    batch: tuple[int, ...] = (4, 8, 16, 32)
    channels: tuple[int, ...] = (4, 8, 16, 32)
    cells: tuple[int, ...] = (4, 6, 8, 12)
    nodes: tuple[int, ...] = (2, 3, 4, 5)
    candidates: tuple[int, ...] = (2, 4, 6, 8)


def main(growth: Growth) -> None:
    file = growth.out.with_suffix(".json")
    points: Points = read_json(file) if file.exists() else {}
    wanted = {name(setting): setting for axis in AXES for setting in along(growth, axis)}
    base = name(sized(growth))
    for key, setting in {base: sized(growth), **wanted}.items():
        lacking = tuple(form for form in growth.forms if form not in points.get(key, {}))
        if lacking:
            print(key, flush=True)
            found = measure_forms(setting, setting.works[0], lacking, profile=key == base)
            points.setdefault(key, {}).update({form: asdict(result) for form, result in found.items()})
            write_bytes(file, json.dumps(points).encode())
    write_bytes(growth.out.with_suffix(".svg"), svg(figure(growth, points)).encode())
    write_bytes(growth.out.with_suffix(".md"), page(growth, points).encode())
    print(f"written: {growth.out}.json, .svg, .md")


def sized(growth: Growth, **changed: int) -> BenchConfig:
    """The base with some sizes changed."""
    lacking = [axis for axis in AXES if getattr(growth.base, axis) is None]
    if lacking:
        raise OcheError(f"the base leaves {', '.join(lacking)} open; give --base.{lacking[0]} a number")
    return replace(growth.base, **changed)


def along(growth: Growth, axis: str) -> list[BenchConfig]:
    return [sized(growth, **{axis: value}) for value in getattr(growth, axis)]


def name(setting: BenchConfig) -> str:
    return ",".join(f"{axis}={getattr(setting, axis)}" for axis in AXES)


def curve(growth: Growth, points: Points, axis: str, form: str, what: str) -> list[tuple[int, float]]:
    """The known points (size, value) of a curve: seconds of a step (``median``) or bytes (``memory``)."""
    found = []
    for setting in along(growth, axis):
        result = points[name(setting)][form]
        times = sorted(result["times"])
        if times:
            value = times[len(times) // 2] if what == "median" else result["memory"]
            found += [] if value is None else [(getattr(setting, axis), value)]
    return found


def exponent(curve: list[tuple[int, float]]) -> float | None:
    """The exponent p of the power law value ~ size^p (least squares of the logarithms); None for fewer than two sizes."""
    pairs = [(math.log(x), math.log(y)) for x, y in curve if y > 0]
    if len({x for x, _ in pairs}) < 2:
        return None
    mx, my = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return sum((x - mx) * (y - my) for x, y in pairs) / sum((x - mx) ** 2 for x, _ in pairs)


@styled
def figure(growth: Growth, points: Points):
    """A figure with time above and memory below, a column per size and a line per form.

    Both axes are logarithmic, so a line of slope 1 is proportional to the size.
    """
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    made = new_figure(2.3 * len(AXES) + 0.6, 4.6)
    panels = made.subplots(2, len(AXES), squeeze=False, sharey="row", sharex="col")
    for column, axis in enumerate(AXES):
        for row, (what, scale) in enumerate((("median", 1.0), ("memory", 2**30))):
            axes = panels[row, column]
            axes.set(xscale="log", yscale="log")
            for form, colour in zip(growth.forms, SERIES, strict=False):
                xy = curve(growth, points, axis, form, what)
                axes.plot(
                    [x for x, _ in xy], [y / scale for _, y in xy], "o-", color=colour, label=form, markersize=3.5
                )
            ticks = getattr(growth, axis)
            axes.set_xticks(ticks, [str(t) for t in ticks])
            axes.set_xticks([], minor=True)
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        panels[0, column].set_title(axis)
    panels[0, 0].set_ylabel("seconds a step")
    panels[1, 0].set_ylabel("GiB")
    made.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(growth.forms))
    return made


def page(growth: Growth, points: Points) -> str:
    """The Markdown page with all tables."""
    base = sized(growth)
    rows = ["| size | form | s a step | GiB |", "|---|---|---|---|"]
    for axis in AXES:
        for form in growth.forms:
            memory = dict(curve(growth, points, axis, form, "memory"))
            for size, seconds in curve(growth, points, axis, form, "median"):
                gib = f"{memory[size] / 2**30:.2f}" if size in memory else "unknown"
                rows.append(f"| {axis} {size} | {form} | {seconds:.3g} | {gib} |")
    grow = ["| form | " + " | ".join(AXES) + " |", "|---" * (len(AXES) + 1) + "|"]
    for form in growth.forms:
        powers = [exponent(curve(growth, points, axis, form, "median")) for axis in AXES]
        grow.append(f"| {form} | " + " | ".join("" if p is None else f"{p:.2f}" for p in powers) + " |")
    parts = [
        "# Growth of a search step",
        describe_machine(base),
        f"`{equivalent_command(base)}`, one size changed at a time",
        f"![time and memory]({growth.out.with_suffix('.svg').name})",
        "\n".join(rows),
        "Time grows as this power of the size:",
        "\n".join(grow),
        *(profile(form, points[name(base)][form]["profile"]) for form in growth.forms),
    ]
    return "\n\n".join(parts) + "\n"


def profile(form: str, rows: list[dict[str, Any]]) -> str:
    """The kernels of a step of ``form``."""
    lines = [
        f"Where the time of a step at the base goes, {form}:",
        "",
        "| kernel | ms | share | calls |",
        "|---|---|---|---|",
    ]
    for row in rows:
        label = row["name"].replace("|", "\\|")[:90]
        lines.append(f"| {label} | {row['ms']:.1f} | {100 * row['share']:.1f} % | {row['calls']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main(tyro.cli(Growth, description=__doc__))
    except OcheError as error:
        sys.exit(f"growth: {error}")
