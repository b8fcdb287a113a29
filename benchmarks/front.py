"""Does a cost penalty move the found cell along the front of accuracy against cost? NAS-Bench-201, on two CPU cores.

    python benchmarks/front.py --data cifar10.parquet --table nasbench201.parquet --out runs/front

Short searches of a small supernet have a penalty on parameters, with several targets, strengths and seeds. The accuracy of a cell
is that of the table, its cost that of the benchmark's network (C = 16, five cells a stage). The same line keeps finished runs and
continues unfinished ones; OUT/front.md and OUT/front.svg are written after each run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import oche
from oche.core import atomic_files as atomic
from oche.core.environment import describe_environment
from oche.core.errors import OcheError
from oche.core.nasbench201 import Table, parse, to_text
from oche.cost.expected_cost import COUNTS, CostModel, cost_model
from oche.cost.units import parse_amount
from oche.methods.catalog import METHODS
from oche.methods.cost_constraints import parameters
from oche.report.plots.style import MUTED, SERIES, new_figure, styled, svg
from oche.spaces.nasbench201 import NB201Space
from oche.study.comparison.table import spread
from oche.training.recipes import space_at_recipe_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = ("none", "800k@1", "400k@1", "200k@1", "100k@1")


@dataclass(frozen=True)
class Setting:
    data: str
    table: Path
    out: Path
    points: tuple[str, ...]
    seeds: tuple[int, ...]
    method: str
    steps: int
    batch: int
    limit: int
    channels: int
    cells: int

    @property
    def space(self) -> NB201Space:
        return oche.spaces.nb201(channels=self.channels, cells=self.cells)

    def path(self, point: str, seed: int) -> Path:
        return self.out / f"{point}-{seed}"

    def search(self, point: str, seed: int) -> oche.Run:
        """The run of a point, "TARGET@STRENGTH" or "none"; it is started, continued or taken as it is."""
        path = self.path(point, seed)
        if path.exists():
            return oche.resume(path)
        method = METHODS[self.method].make(steps=self.steps, batch=self.batch)
        if point != "none":
            target, strength = point.split("@")
            added = parameters if method.method.penalty is None else method.method.penalty + parameters
            method = replace(method, penalty=added, target=target, strength=float(strength))
        return oche.search(
            self.data,
            space=self.space,
            method=method,
            out=path,
            seed=seed,
            limit=self.limit,
            table=self.table,
            threads=1,
        )


@dataclass(frozen=True)
class Found:
    """The cell of a finished search, with its accuracy and cost."""

    point: str
    accuracy: float  # percent
    weights: float
    arch: str


def finished(setting: Setting, known: Table, count: CostModel) -> list[Found]:
    found = []
    for point in setting.points:
        for seed in setting.seeds:
            path = setting.path(point, seed)
            if (path / "status.json").exists() and (run := oche.Run.open(path)).state == "complete":
                cell = run.genotype
                of = (known.accuracy(cell), count.of(cell), to_text(cell))
                found.append(Found(point, *of))
    return found


# --- what is written ------------------------------------------------------------------------------------------------------


def front(weights: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Indices of the cells on the Pareto front (no other cell is both smaller and better), by weights."""
    order = np.lexsort((-accuracy, weights))
    best = np.maximum.accumulate(accuracy[order])
    return order[np.flatnonzero(np.r_[True, best[1:] > best[:-1]])]


@styled
def draw(found: Sequence[Found], points: Sequence[str], weights: np.ndarray, accuracy: np.ndarray) -> Figure:
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    axes.scatter(weights / 1e3, 100 - accuracy, s=2, color=MUTED, alpha=0.25, linewidths=0, rasterized=True)
    edge = front(weights, accuracy)
    axes.plot(
        weights[edge] / 1e3,
        100 - accuracy[edge],
        color=MUTED,
        drawstyle="steps-post",
        label="front of all 15,625 cells",
    )
    for i, point in enumerate(points):
        cells = [f for f in found if f.point == point]
        if not cells:
            continue
        colour, (target, _, strength) = SERIES[i % len(SERIES)], point.partition("@")
        label = "no penalty" if point == "none" else f"target {target}, strength {strength}"
        axes.scatter(
            [f.weights / 1e3 for f in cells], [100 - f.accuracy for f in cells], s=38, color=colour, marker="osDv^P"[i % 6],
            edgecolors="white", linewidths=0.6, label=label, zorder=3,
        )  # fmt: skip
        if point != "none":
            axes.axvline(parse_amount(target, "parameters") / 1e3, color=colour, linestyle=":", linewidth=1.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for put, ticks in ((axes.set_xticks, (100, 200, 400, 800, 1600)), (axes.set_yticks, (6, 8, 10, 15, 20, 30, 50))):
        put(ticks, [f"{t:,}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("parameters of the benchmark's network (thousands); dotted: targets")
    axes.set_ylabel("true test error (%)")
    axes.set_ylim(5.3, max(16.0, *(1.1 * (100 - f.accuracy) for f in found)))
    axes.legend(loc="upper right", fontsize=8)
    return figure


def report(setting: Setting, found: Sequence[Found], best: float) -> str:
    made, data = describe_environment("cpu"), Path(setting.data).name
    lines = [
        "# Accuracy against parameters: searches with a penalty, NAS-Bench-201",
        "",
        f"{made['time'][:10]}, torch {made['torch']}, {made['cpu']}, one thread a run. {setting.method}, {setting.steps} steps, "
        f"batch {setting.batch}, {setting.limit} training images of {data}, half of them to validate; C = {setting.channels}, "
        f"{setting.cells} cells a stage. Mean ± sample standard deviation over the seeds.",
        "",
        "| target@strength | parameters (k) | true test accuracy (%) | n | within the target | best there (%) "
        "| mean of all there (%) |",
        "|---|---|---|---|---|---|---|",
    ]
    known, count = Table(setting.table), counted(setting)
    weights, accuracy = every(known, count)
    for point in setting.points:
        cells = [f for f in found if f.point == point]
        if not cells:
            continue
        limit = np.inf if point == "none" else parse_amount(point.split("@")[0], "parameters")
        there, within = accuracy[weights <= limit], sum(f.weights <= limit for f in cells)
        lines.append(
            f"| {point} | {spread([f.weights / 1e3 for f in cells], 0)} | {spread([f.accuracy for f in cells])} | {len(cells)} | "
            f"{within} of {len(cells)} | {there.max():.2f} | {spread(there.tolist())} |"
        )
    lines += ["", f"The best cell of all reaches {best:.2f} %. The cells:", ""]
    lines += [f"- {f.point}: {f.arch}, {f.weights / 1e3:.0f} k, {f.accuracy:.2f} %" for f in found]
    return "\n".join([*lines, ""])


def counted(setting: Setting) -> CostModel:
    """Number of parameters of the benchmark's network of a cell, for CIFAR-10."""
    return cost_model(space_at_recipe_size(setting.space, "nb201"), COUNTS["parameters"])


def every(known: Table, count: CostModel) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of weights and accuracies (percent) of all cells."""
    return np.array([count.of(parse(a)) for a in known.archs]), np.array([known.accuracy(a) for a in known.archs])


def write(setting: Setting) -> None:
    known, count = Table(setting.table), counted(setting)
    if found := finished(setting, known, count):
        atomic.write_bytes(setting.out / "front.md", report(setting, found, known.best()[1]).encode())
        atomic.write_bytes(setting.out / "front.svg", svg(draw(found, setting.points, *every(known, count))).encode())


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", required=True, help="CIFAR-10, as oche search takes it")
    parser.add_argument("--table", type=Path, required=True, help="Parquet file of NAS-Bench-201's accuracies")
    parser.add_argument("--out", type=Path, default=Path("runs/front"), help="folder for runs, table and picture")
    parser.add_argument("--points", nargs="+", default=POINTS, help="TARGET@STRENGTH, or none")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of each point")
    parser.add_argument("--method", default="beta-darts", help="as in oche list methods")
    for name, value in (("steps", 150), ("batch", 64), ("limit", 5000), ("channels", 4), ("cells", 1)):
        parser.add_argument(f"--{name}", type=int, default=value, help="of each search")
    given = vars(parser.parse_args(words))
    setting = Setting(**given | {"points": tuple(given["points"]), "seeds": tuple(given["seeds"])})
    if not setting.table.is_file():
        print(f"there is no table at {setting.table}, and without the true accuracies there is no front; nothing done")
        return 0
    setting.out.mkdir(parents=True, exist_ok=True)
    try:
        for seed in setting.seeds:
            for point in setting.points:
                setting.search(point, seed)
                write(setting)
    except OcheError as error:
        print(f"front: {error}", file=sys.stderr)
        return 2
    print((setting.out / "front.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
