"""Do searches in bfloat16 find the same cells as searches in float32? The same seeds in both, on NAS-Bench-201 and on digits.

    python benchmarks/precision.py --data cifar10.parquet --table nasbench201.parquet --out runs/precision

On NAS-Bench-201 the settings are those of ``compare_nb201.py``, and the table gives the true accuracies; on the digits the
validation half gives the accuracy of the supernet. Float32 uses the default form of computing, bfloat16 uses plain modules. Seeds
in ``--control`` also search in float32 with plain modules, which differs only in the order of sums. The same line keeps finished
runs and continues unfinished ones; OUT/precision.md is written after each run. ``--timed`` measures CPU time of steps instead,
forms in turns.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

import oche
from oche.analysis import PairedComparison, Undetermined, compare_paired, summarise
from oche.bilevel.search import Search
from oche.core import atomic_files as atomic
from oche.core.console import Log
from oche.core.environment import describe_environment
from oche.core.errors import OcheError
from oche.core.nasbench201 import to_text
from oche.devices.engine import Engine
from oche.devices.mixed_precision import Precision
from oche.kernels.choose import EngineMode as Fused
from oche.methods.catalog import METHODS
from oche.runs.plan import load_data
from oche.spaces.base import Space

#: kind of search → its precision, and how its cells compute
KINDS: dict[str, tuple[Precision, Fused]] = {
    "float32": ("float32", "auto"),
    "bf16": ("bf16", "auto"),
    "plain": ("float32", "plain"),
}
LAST = 3  # records over which validation is averaged, since the last epoch may have few batches


@dataclass(frozen=True)
class Setting:
    data: str = "cifar10"
    """CIFAR-10, as for oche search"""
    table: Path | None = None
    """Parquet file with the accuracies of NAS-Bench-201"""
    out: Path = Path("runs/precision")
    """folder for the runs and the table"""
    works: tuple[str, ...] = ("nb201", "digits")
    """benchmarks to search on"""
    methods: tuple[str, ...] = ("darts", "beta-darts")
    """names from oche list methods"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """seeds of each method and precision"""
    control: tuple[int, ...] = ()
    """seeds that also search in float32 with plain modules"""
    steps: int = 400
    """steps of a search on NAS-Bench-201"""
    digits_steps: int = 110
    """steps of a search on the digits"""
    timed: int = 0
    """time this many steps of each form instead of searching"""

    def space(self, work: str) -> Space:
        if work == "nb201":
            return oche.spaces.nb201(channels=4, cells=1)
        return oche.spaces.darts(channels=4, cells=3, nodes=2)

    def method(self, work: str, method: str, precision: Precision) -> Any:
        size = dict(batch=64, steps=self.steps) if work == "nb201" else dict(batch=32, steps=self.digits_steps)
        return METHODS[method].make(precision=precision, **size)


def search(setting: Setting, work: str, method: str, kind: str, seed: int) -> oche.Run:
    """One search: started, continued, or taken as it is."""
    path = setting.out / f"{work}-{method}-{kind}-{seed}"
    if (path / "status.json").exists():
        return oche.resume(path)
    given: dict[str, Any] = dict(data="digits")
    if work == "nb201":
        given = dict(data=setting.data, table=setting.table, limit=5000)
    precision, fused = KINDS[kind]
    made = setting.method(work, method, precision)
    return oche.search(space=setting.space(work), method=made, out=path, seed=seed, threads=1, engine=fused, **given)


# --- what came of it ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two searches of one seed: in float32, and as another of `KINDS`."""

    seed: int
    float32: oche.Run
    other: oche.Run

    @property
    def alike(self) -> tuple[int, int]:
        """Number of edges with the same operation from the same node, and number of kept edges."""
        one, other = (
            [edge for name, cell in sorted(run.genotype.cells.items()) for edge in ((name, *e) for e in cell.edges)]
            for run in (self.float32, self.other)
        )
        return len({*one} & {*other}), len(one)

    @property
    def apart(self) -> tuple[float, float]:
        """Root mean squares over logits: of their differences, and of how far float32 moved them; each less its row's mean,
        which no mixture feels."""
        begun, ended, other = (
            torch.cat([torch.tensor(a) for _, a in sorted(record["logits"].items())])
            for record in (self.float32.history[0], self.float32.history[-1], self.other.history[-1])
        )
        differences = (other - ended, ended - begun)
        found = [float((d - d.mean(1, keepdim=True)).square().mean().sqrt()) for d in differences]
        return found[0], found[1]


def pairs(setting: Setting, work: str, method: str, other: str) -> list[Pair]:
    found = []
    for seed in setting.seeds:
        paths = [setting.out / f"{work}-{method}-{kind}-{seed}" for kind in ("float32", other)]
        if all((path / "status.json").exists() for path in paths):
            one, two = map(oche.Run.open, paths)
            if one.state == two.state == "complete":
                found.append(Pair(seed, one, two))
    return found


def late(run: oche.Run, name: str) -> float:
    """The mean of ``name`` over the last records."""
    said = [
        record[name] for record in run.history if record.get(name) is not None
    ]  # the first record is before any step
    return statistics.fmean(said[-LAST:])


def measures(work: str) -> dict[str, Any]:
    """The compared measures: name → a function of a run."""
    found: dict[str, Any] = {}
    if work == "nb201":
        found["true test accuracy (%)"] = lambda run: 100 * run.summary["true_acc"]
    return found | {
        "validation accuracy (%)": lambda run: 100 * late(run, "val_acc"),
        "validation loss": lambda run: late(run, "val_loss"),
        "training loss": lambda run: late(run, "train_loss"),
    }


def spread(values: Sequence[float], digits: int) -> str:
    found = summarise(values)
    assert not isinstance(found, Undetermined)
    sd = "" if isinstance(found.sd, Undetermined) else f" ± {found.sd:.{digits}f}"
    return f"{found.mean:.{digits}f}{sd}"


def compared(work: str, made: Sequence[Pair]) -> list[str]:
    """Rows of a table: each measure in both precisions, and the test of the difference."""
    rows = []
    for name, of in measures(work).items():
        digits = 3 if "loss" in name else 2
        a, b = ({pair.seed: of(run(pair)) for pair in made} for run in (lambda p: p.other, lambda p: p.float32))
        said = compare_paired(a, b)
        if isinstance(said, PairedComparison):
            interval = said.interval
            range_ = (
                str(interval)
                if isinstance(interval, Undetermined)
                else " to ".join(f"{x:+.{digits}f}" for x in interval)
            )
            end = f"{said.difference:+.{digits}f} | {range_} | {said.p:.3g} (least {said.smallest:.3g})"
        else:
            end = f"– | {said} | –"
        rows.append(
            f"| {name} | {spread([*b.values()], digits)} | {spread([*a.values()], digits)} | {end} | {len(made)} |"
        )
    return rows


def curves(made: Sequence[Pair]) -> list[str]:
    """Rows of a table: the validation loss of both precisions by epoch, mean over seeds."""
    lines = ["| epoch | validation loss, float32 | bf16 | largest difference of a seed |", "|---|---|---|---|"]
    for i, record in enumerate(made[0].float32.history):
        if record.get("val_loss") is None:
            continue
        one, other = (
            [run.history[i]["val_loss"] for run in runs]
            for runs in ([p.float32 for p in made], [p.other for p in made])
        )
        most = max(abs(x - y) for x, y in zip(one, other, strict=True))
        lines.append(f"| {record['epoch']} | {spread(one, 3)} | {spread(other, 3)} | {most:.3f} |")
    return lines


def each(work: str, made: Sequence[Pair], other: str) -> list[str]:
    """Rows of a table: the distance between the two searches of each seed, and their cells."""
    lines = [f"| seed | logits apart / moved | edges alike | float32 | {other} |", "|---|---|---|---|---|"]
    for pair in made:
        cells = [
            f"{to_text(r.genotype)}, {100 * r.summary['true_acc']:.2f} %" if work == "nb201" else "–"
            for r in (pair.float32, pair.other)
        ]
        cells = [cell.replace("|", "\\|") for cell in cells]
        (same, count), (apart, moved) = pair.alike, pair.apart
        lines.append(f"| {pair.seed} | {apart:.4f} / {moved:.4f} | {same} of {count} | {cells[0]} | {cells[1]} |")
    return lines


def report(setting: Setting) -> str:
    e = describe_environment("cpu")
    lines = [
        "# Searches in bfloat16 and in float32, the same seeds",
        "",
        f"{e['time'][:10]}, commit {str(e['commit'])[:12]}, torch {e['torch']}, {e['cpu']}, one thread a run.",
    ]
    for work in setting.works:
        for method in setting.methods:
            if not (made := pairs(setting, work, method, "bf16")):
                continue
            lines += ["", f"## {work}, {method}", ""]
            lines += [
                "| | float32 | bf16 | bf16 − float32 | 95 % interval | p | n |",
                "|---|---|---|---|---|---|---|",
            ]
            lines += [*compared(work, made), "", *curves(made), "", *each(work, made, "bf16")]
            if control := pairs(setting, work, method, "plain"):
                lines += ["", "In float32, in the form that a user gets and in plain modules:", ""]
                lines += each(work, control, "plain")
    return "\n".join([*lines, ""])


# --- time -----------------------------------------------------------------------------------------------------------------


def times(setting: Setting, work: str, steps: int) -> list[str]:
    """CPU milliseconds of a step in each form, measured in turns."""
    from oche.runs.config import SearchConfig

    config = SearchConfig(data=setting.data if work == "nb201" else "digits", limit=5000, device="cpu")
    data = load_data(config, Log(quiet=True))
    space, forms = setting.space(work).fit(data), {}
    kinds: tuple[tuple[str, Precision, Fused], ...] = (
        ("plain, float32", "float32", "plain"),
        ("plain, bf16", "bf16", "plain"),
        ("as by default, float32", "float32", "auto"),
    )
    for name, precision, fused in kinds:
        made = replace(setting.method(work, "darts", precision), steps=10**6)
        forms[name] = Search(space, made, data, seed=0, engine=Engine("cpu", 1, fused=fused))
        forms[name].begin(0, 0)
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for step in range(steps + 2):
        for name, task in forms.items():
            begun = time.thread_time()
            task.step(step, step / 10**6)
            taken[name].append(1e3 * (time.thread_time() - begun))
    first = statistics.median(taken["plain, float32"][2:])
    return [
        f"| {work} | {name} | {statistics.median(ms := found[2:]):.0f} ({min(ms):.0f} to {max(ms):.0f}) | "
        f"{statistics.median(ms) / first:.2f} | {len(ms)} |"
        for name, found in taken.items()
    ]


def main(setting: Setting) -> int:
    torch.set_num_threads(1)
    if setting.timed:
        print("| work | form | ms of the processor a step, median (range) | relative | n |\n|---|---|---|---|---|")
        for work in setting.works:
            print(*times(setting, work, setting.timed), sep="\n", flush=True)
        return 0
    setting.out.mkdir(parents=True, exist_ok=True)
    try:
        for seed in setting.seeds:
            for work in setting.works:
                for method in setting.methods:
                    for kind in ("float32", "bf16", *(["plain"] if seed in setting.control else [])):
                        search(setting, work, method, kind, seed)
                        atomic.write_bytes(setting.out / "precision.md", report(setting).encode())
    except OcheError as error:
        print(f"precision: {error}", file=sys.stderr)
        return 2
    print((setting.out / "precision.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Setting)))
