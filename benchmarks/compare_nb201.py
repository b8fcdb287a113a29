"""Methods × seeds on NAS-Bench-201 at one stated budget, and the table of what their cells really reach.

    python benchmarks/compare_nb201.py --data cifar10_jpeg.parquet --table nasbench201.parquet --out runs/compare
    python benchmarks/compare_nb201.py --data cifar10 --table t.parquet --methods darts gdas --seeds 0 1 --budget 20s

Every run is a process of its own (`oche search`), whose peak memory is its own too. Runs that are finished are left as they
are, and ones that were stopped go on, so the same line can be given again. The table is written after every run, to
OUT/table.md; what a run says is in OUT/METHOD-SEED.log. The length, --steps or --budget, holds for the training of the
supernet; a selection that asks it comes on top and is part of the CPU time. Steps give the same cells whatever else runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from oche.api import Run
from oche.decide import Evolution, SampleBest
from oche.errors import OcheError
from oche.methods import METHODS
from oche.run.environment import environment
from oche.truth import truth

MANY = (
    "darts", "darts-2nd", "i-darts", "gdas", "snas", "drnas", "pc-darts", "darts-minus", "fair-darts", "sgas-1", "sdarts-rs",
    "beta-darts", "gaea", "darts-pt", "random-ws", "one-shot", "evolution-ws",
)  # fmt: skip
# True test accuracy on CIFAR-10 at published size and length, in per cent.
PUBLISHED = {
    "darts": "54.30 (2001.00326)",
    "darts-2nd": "54.30 (2001.00326)",
    "gdas": "93.61 (2001.00326)",
    "pc-darts": "93.41 (in 2006.10355)",
    "drnas": "94.36 (2006.10355)",
    "random-ws": "87.66 ± 1.69 (RSPS, 2001.00326)",
    "evolution-ws": "93.92 (2001.00326; each cell trained by itself)",
}


@dataclass(frozen=True)
class Setting:
    data: str
    """CIFAR-10: a name that oche search knows, or a file"""
    table: Path
    """Parquet file of the benchmark's accuracies (see oche.bench201.Table)"""
    out: Path = Path("runs/compare")
    """folder for runs and table"""
    methods: tuple[str, ...] = MANY
    """names as in oche list methods"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of each method"""
    steps: int | None = None
    """steps of each search"""
    budget: str | None = None
    """time of each search, instead of steps; by default 3m"""
    channels: int = 4
    """width of the supernet's first stage; published: 16"""
    cells: int = 1
    """cells in each stage; published: 5"""
    limit: int | None = 5000
    """training images, of which one half validates"""
    batch: int | None = None
    """images in a batch; by default each method's own"""
    tried: int = 200
    """architectures that selections of whole ones try; published: 1000"""
    jobs: int = 1
    """runs at a time; with more than one, times and what a budget of time allows depend on the others"""
    threads: int = 1
    """CPU threads of each run"""
    device: str = "auto"
    """auto, cpu, cuda"""

    def __post_init__(self) -> None:
        if self.steps is not None and self.budget is not None:
            raise OcheError(f"steps={self.steps} and budget={self.budget!r} contradict each other; give one of them")

    @property
    def length(self) -> tuple[str, str]:
        """The option of `oche search` that sets it, and its value."""
        return ("budget", self.budget or "3m") if self.steps is None else ("steps", str(self.steps))

    @property
    def kept(self) -> dict[str, object]:
        """What all runs of a table have in common."""
        free = ("out", "methods", "seeds", "jobs", "table")
        return {k: v for k, v in asdict(self).items() if k not in free}

    def words(self, method: str, seed: int) -> list[str]:
        """The line of one search."""
        select = METHODS[method].make().select
        few = max(2, self.tried // 10)
        extra = {
            SampleBest: ["--search.select.count", self.tried],
            Evolution: [
                "--search.select.cycles", self.tried, "--search.select.population", few,
                "--search.select.sample", max(1, few // 4),
            ],
        }.get(type(select), [])  # fmt: skip
        options = {
            "--method": method, "--space": "nb201", "--space.channels": self.channels, "--space.cells": self.cells,
            "--data": self.data, "--limit": self.limit, "--seed": seed, f"--search.{self.length[0]}": self.length[1],
            "--search.batch": self.batch, "--table": self.table, "--device": self.device, "--threads": self.threads,
            "--out": self.out / f"{method}-{seed}",
        }  # fmt: skip
        given = [word for name, value in options.items() if value is not None for word in (name, value)]
        return ["search", *map(str, [*given, *extra]), "--quiet"]


def finished(path: Path) -> Run | None:
    try:
        run = Run.open(path)
    except OcheError:
        return None
    return run if run.state == "complete" and "true_acc" in run.summary else None


def work(setting: Setting, method: str, seed: int) -> None:
    """Starts, or goes on with, one search, and waits for it; its memory and time are kept beside it."""
    path, usage = setting.out / f"{method}-{seed}", setting.out / f"{method}-{seed}.json"
    if finished(path):
        return
    words = ["resume", str(path), "--quiet"] if (path / "status.json").exists() else setting.words(method, seed)
    began = time.monotonic()
    with (setting.out / f"{method}-{seed}.log").open("a") as log:
        log.write(f"oche {' '.join(words)}\n")
        log.flush()
        threads = {"OMP_NUM_THREADS": str(setting.threads)}
        child = subprocess.Popen(
            [sys.executable, "-m", "oche", *words], stdout=log, stderr=log, env={**os.environ, **threads}
        )
        _, status, spent = os.wait4(child.pid, 0)  # of this child alone, whatever else runs
        child.returncode = os.waitstatus_to_exitcode(status)
    before = json.loads(usage.read_text()) if usage.exists() else {"peak_mb": 0, "wall_s": 0, "cpu_s": 0}
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in kilobytes here
    usage.write_text(json.dumps({
        "peak_mb": max(before["peak_mb"], spent.ru_maxrss / unit), "wall_s": before["wall_s"] + time.monotonic() - began,
        "cpu_s": before["cpu_s"] + spent.ru_utime + spent.ru_stime, "exit": child.returncode,
    }))  # fmt: skip


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and sample standard deviation."""
    sd = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{sd}" if values else "–"


def row(setting: Setting, method: str) -> tuple[float, str] | None:
    """(mean accuracy, line of the table) of the finished runs of a method."""
    found = [(run, json.loads((setting.out / f"{method}-{seed}.json").read_text())) for seed in setting.seeds
             if (run := finished(setting.out / f"{method}-{seed}"))]  # fmt: skip
    if not found:
        return None
    each = [run.summary for run, _ in found]
    accuracy = [100 * s["true_acc"] for s in each]
    cells = [
        spread(accuracy), spread([100 * s["regret"] for s in each]), f"{min(accuracy):.2f}", str(len(found)),
        spread([s["step_ms"] for s in each], 0), f"{statistics.median(s['steps'] for s in each):.0f}",
        f"{max(u['peak_mb'] for _, u in found):.0f}", f"{statistics.fmean(u['cpu_s'] for _, u in found):.0f}",
        f"{statistics.fmean(run.genotype.cells['cell'].share('skip_connect') for run, _ in found):.2f}",
        PUBLISHED.get(method, "–"),
    ]  # fmt: skip
    return statistics.fmean(accuracy), f"| {method} | {' | '.join(cells)} |"


def last_line(path: Path) -> str:
    lines = path.read_text().strip().splitlines() if path.exists() else []
    return lines[-1][:300] if lines else "nothing was said"


def table(setting: Setting) -> str:
    """The Markdown of what there is so far."""
    e, of = environment(setting.device), truth(setting.table, setting.data)
    assert of is not None
    every = [of.table.accuracy(arch, of.column) for arch in of.table.archs]
    size = f"C = {setting.channels}, {setting.cells} cells a stage (published: 16, 5)"
    batch = f"batch {setting.batch}" if setting.batch else "each method's own batch"
    lines = [
        f"# NAS-Bench-201, {' '.join(reversed(setting.length))} for each search",
        "",
        f"{time.strftime('%Y-%m-%d')}, commit {str(e['commit'])[:12]}, torch {e['torch']}, {e.get('gpu') or e['cpu']}, "
        f"{setting.threads} threads a run, {setting.jobs} at a time. "
        f"{Path(setting.data).name}, {setting.limit or 'all'} training images, half of them to validate; {size}; {batch}; "
        f"selections of whole architectures try {setting.tried}.",
        "",
        f"True test accuracy: column {of.column} of the table, after 200 epochs of training at published size. "
        f"Mean ± sample standard deviation over seeds {', '.join(map(str, setting.seeds))}. "
        f"Memory: the largest of the runs, the whole process (torch alone is some 250 MB). Published values are for full-size "
        "searches of published length.",
        "",
        "| method | true test accuracy (%) | regret (points) | worst (%) | n | ms per step | steps | peak memory (MB) | "
        "CPU time (s) | share of skips | published (%) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [found for method in setting.methods if (found := row(setting, method))]
    lines += [line for _, line in sorted(rows, key=lambda pair: -pair[0])]
    mean, best = statistics.fmean(every), 100 * of.best
    lines += [f"| a random cell, the mean of all | {spread(every)} | {best - mean:.2f} | {min(every):.2f} | {len(every):,} "
              "| – | – | – | – | – | – |"]  # fmt: skip
    missing = [(m, s) for m in setting.methods for s in setting.seeds if not finished(setting.out / f"{m}-{s}")]
    if missing:
        lines += ["", "Not there (yet):", ""]
        for m, s in missing:
            said = last_line(setting.out / f"{m}-{s}.log") if (setting.out / f"{m}-{s}.json").exists() else "not run"
            lines.append(f"- {m}, seed {s}: {said}")
    return "\n".join([*lines, ""])


def main(setting: Setting) -> int:
    if unknown := [m for m in setting.methods if m not in METHODS]:
        raise OcheError(f"unknown methods {', '.join(unknown)}; known: {', '.join(METHODS)}")
    truth(setting.table, setting.data)  # its own checks, before any work
    setting.out.mkdir(parents=True, exist_ok=True)
    file, kept = setting.out / "setting.json", json.dumps(setting.kept)
    if file.exists() and file.read_text() != kept:
        raise OcheError(
            f"{setting.out} holds runs of another setting, {file.read_text()}; give another --out, or that setting"
        )
    file.write_text(kept)
    lock = threading.Lock()

    def run(pair: tuple[int, str]) -> None:
        seed, method = pair
        work(setting, method, seed)
        with lock:
            (setting.out / "table.md").write_text(table(setting))
            done = finished(setting.out / f"{method}-{seed}")
            print(
                f"{method}-{seed}: " + (f"{100 * done.summary['true_acc']:.2f} %" if done else "no result"), flush=True
            )

    with ThreadPoolExecutor(max(1, setting.jobs)) as pool:  # seed by seed, so that an early end leaves a fair table
        list(pool.map(run, [(seed, method) for seed in setting.seeds for method in setting.methods]))
    print((setting.out / "table.md").read_text())
    return 0 if all(finished(setting.out / f"{m}-{s}") for m in setting.methods for s in setting.seeds) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Setting, description=__doc__)))
    except OcheError as error:
        sys.exit(f"compare_nb201: {error}")
