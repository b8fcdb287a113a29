"""Kill searches, trainings and studies with SIGKILL at random moments, again and again, and resume them: each must end, bit for
bit, as an undisturbed one.

    python benchmarks/reliability/kills.py                       100 kills
    python benchmarks/reliability/kills.py --searches 0 --trainings 0 --studies 5 --seed 3

A run is started, killed at a moment drawn uniformly from its undisturbed duration, resumed and killed again until it ends; then
the next one starts, until the number of kills is reached. Runs are forked from a server that has imported everything. In a study,
the driver, a worker, or both are killed. OUT/table.md has the counts, OUT/faults.txt the differences.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tyro
import yaml

from oche.core.lock import is_locked
from oche.runs.checkpoint import load_weights
from oche.runs.claim import is_run
from oche.runs.directory import read_metrics

SERVER = get_context("forkserver")
# All that a run imports, late imports too; else every start would spend seconds on imports, when there is little to kill.
SERVER.set_forkserver_preload([
    "oche.api", "oche.report", "oche.bilevel.search", "oche.training", "oche.deploy.evaluate", "oche.data.loading",
    "oche.runs.session", "oche.cli.search", "oche.cli.train", "oche.cli.runs", "torch._dynamo",
    "torch.utils.flop_counter", "tensorboard.summary.writer.record_writer",
])  # fmt: skip


def words(line: str) -> list[str]:
    return line.split()


COMMON = words("--data digits --limit 90 --threads 1 --device cpu --engine plain --checkpoint 0 --quiet")
SEARCH = words(
    "search --method darts-2nd --space.channels 2 --space.cells 3 --space.nodes 1 --search.batch 15 --search.epochs 3"
)
TRAINING = words(
    "train DARTS_V2 --recipe small --train.channels 2 --train.cells 3 --train.batch 15 --train.epochs 3 --train.drop-path 0.3 "
    "--train.auxiliary 0.4 --train.cutout 4"
)
STUDY: dict[str, Any] = {
    "device": "cpu", "limit": 60, "data": "digits", "recipe": "small", "checkpoint": 0.0, "engine": "plain", "jobs": 2,
    "space": {"channels": 2, "cells": 3, "nodes": 2}, "search": {"batch": 8, "steps": 24},
    "train": {"channels": 2, "cells": 3, "steps": 12}, "grid": {"method": ["darts", "random"], "seed": [0, 1]},
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    searches: int = 40
    """kills of searches"""
    trainings: int = 40
    """kills of trainings"""
    studies: int = 20
    """kills of studies"""
    seed: int = 0
    """seed of the moments, as far as the machine's speed allows"""
    out: Path = Path("build/kills")
    """folder for runs and results"""


# --- runs -----------------------------------------------------------------------------------------------------------------


def _work(line: list[str]) -> None:
    """Run ``oche LINE`` in a process of its own, without its report, which is made from files only."""
    import torch

    import oche.report.run_page
    from oche.cli import main as cli

    torch.set_num_threads(1)
    oche.report.run_page.write_report = lambda path: path
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        sys.exit(cli.main(line))


def live(line: list[str], seconds: float | None) -> bool:
    """Run ``oche LINE``, killed after ``seconds``; return whether it ended before. Raises RuntimeError if it failed."""
    process = SERVER.Process(target=_work, args=(line,))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"oche {' '.join(line)}: exit code {process.exitcode}")
    return process.exitcode == 0


def lives(line: list[str], out: Path, moments: Iterator[float]) -> Iterator[None]:
    """Start a run and resume it until it ends; yield after each kill."""
    while not live(["resume", str(out), "--quiet"] if is_run(out) else [*line, "--out", str(out)], next(moments)):
        yield


def results(run: Path) -> dict[str, Any]:
    """All results of a run, without times."""
    summary = json.loads((run / "summary.json").read_text())
    return {
        "state": json.loads((run / "status.json").read_text())["state"],
        "weights": {k: t.numpy().tobytes() for k, t in load_weights(run / "weights.safetensors").items()},
        "genotype": (run / "genotype.txt").read_text(),
        "metrics": [{k: v for k, v in record.items() if k != "timings"} for record in read_metrics(run)],
        "summary": {k: v for k, v in summary.items() if k not in ("seconds", "step_ms", "other_seconds")},
        "leftovers": [file.name for file in run.rglob(".tmp-*")],
    }


# --- studies --------------------------------------------------------------------------------------------------------------


def study_lives(out: Path, moments: Iterator[float], rng: random.Random) -> Iterator[None]:
    """The same for a study, in the processes that `oche study` starts.

    It is resumed whatever its end was, but ten failures without a kill are a fault.
    """
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(STUDY | {"out": str(out)}))
    failed = 0
    while True:
        driver = subprocess.Popen(
            [sys.executable, "-m", "oche", "study", str(file), "--quiet"], stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            if driver.wait(next(moments)) == 0:
                return
        killed = _kill(driver, out, rng.choice(("driver", "worker", "both")))
        if killed:
            yield
        elif driver.poll() is not None:
            failed += 1
            if failed == 10:
                raise RuntimeError(f"oche study {file}: exit code {driver.returncode}")
        driver.kill()
        driver.wait()
        _settled(out)


def _kill(driver: subprocess.Popen[bytes], out: Path, victim: str) -> bool:
    """Kill a process; return whether it existed."""
    pids = [] if victim == "worker" or driver.poll() is not None else [driver.pid]
    pids += [] if victim == "driver" else _workers(out)[: None if victim == "both" else 1]
    done = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            done += 1
    return done > 0


def _workers(out: Path) -> list[int]:
    locks = [file for file in out.glob("trials/*/.lock") if is_locked(file.parent)]
    return [int(text) for file in locks if (text := file.read_text().strip())]


def _settled(out: Path) -> None:
    """Wait for workers that outlive their driver, since their trials are still locked."""
    end = time.monotonic() + 120
    while _workers(out) and time.monotonic() < end:
        time.sleep(0.1)


def study_results(out: Path) -> dict[str, Any]:
    return {
        f"{run.parent.parent.name}/{run.parent.name}/{name}": value
        for run in sorted(out.glob("trials/*/*/status.json"))
        for name, value in results(run.parent).items()
    }


# --- all ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    lives: Callable[[Path, Iterator[float], random.Random], Iterator[None]]
    results: Callable[[Path], dict[str, Any]]
    kills: int


def campaign(name: str, kind: Kind, setting: Setting, faults: Any) -> tuple[int, int, int, float]:
    """Return the numbers of kills, of finished runs and of different results, and the seconds of an undisturbed run."""
    rng, kills, ended, bad = random.Random(f"{name} {setting.seed}"), 0, 0, 0
    calm, began = setting.out / f"{name}-calm", time.monotonic()
    for _ in kind.lives(calm, iter(lambda: None, 0), rng):  # type: ignore[arg-type]
        raise RuntimeError("nobody killed it")
    seconds, wanted = time.monotonic() - began, kind.results(calm)
    moments = iter(lambda: rng.uniform(0, seconds), -1.0)
    while kills < kind.kills:
        out = setting.out / f"{name}-{ended}"
        began = time.monotonic()
        more = sum(1 for _ in kind.lives(out, moments, rng))
        if not more:  # the machine may be less busy than it was
            seconds = time.monotonic() - began
        found, ended, kills = kind.results(out), ended + 1, kills + more
        unequal = [key for key in {*wanted, *found} if wanted.get(key) != found.get(key)]
        if unequal:
            bad += 1
            print(f"{out} is not {calm}: {', '.join(sorted(unequal))}", file=faults, flush=True)
        else:
            shutil.rmtree(out)
        print(f"{name}: {kills} kills, {ended} runs, {bad} not equal", flush=True)
    return kills, ended, bad, seconds


def main(setting: Setting) -> None:
    shutil.rmtree(setting.out, ignore_errors=True)
    setting.out.mkdir(parents=True)
    kinds = {
        "search": Kind(lambda out, moments, rng: lives([*SEARCH, *COMMON], out, moments), results, setting.searches),
        "training": Kind(
            lambda out, moments, rng: lives([*TRAINING, *COMMON], out, moments), results, setting.trainings
        ),
        "study": Kind(study_lives, study_results, setting.studies),
    }
    rows = [
        "| | kills | runs that came to their end | not as undisturbed | seconds undisturbed |",
        "|---|---|---|---|---|",
    ]
    live(["--version"], None)  # starts the server, so that its imports do not count as time of the first run
    with (setting.out / "faults.txt").open("w") as faults:
        for name, kind in kinds.items():
            if kind.kills:
                kills, ended, bad, seconds = campaign(name, kind, setting, faults)
                rows.append(f"| {name} | {kills} | {ended} | {bad} | {seconds:.1f} |")
    (setting.out / "table.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main(tyro.cli(Setting, description=__doc__))
