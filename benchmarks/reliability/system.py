"""Trouble of the system: full and read-only disks, two processes on one run, a clock that jumps, a cache that is no use.

    python benchmarks/reliability/system.py                      as root, to mount small disks in memory

A run in trouble must end in one line, leave only whole files, and continue to the undisturbed result once the trouble is over.
OUT/table.md has the counts, OUT/faults.txt the faults.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import tyro
from judge import call, untidy
from kills import COMMON, SEARCH, SERVER, TRAINING, results

import oche.report.run_page
from oche.runs.checkpoint import load_latest
from oche.runs.directory import read_metrics

KINDS = {"search": [*SEARCH, *COMMON], "training": [*TRAINING, *COMMON]}


@dataclass(frozen=True)
class Setting:
    disks: int = 40
    """runs on a disk that fills"""
    doors: int = 20
    """commands on a read-only disk"""
    pairs: int = 20
    """pairs of processes on one run"""
    clocks: int = 20
    """runs with a clock that jumps"""
    caches: int = 6
    """runs whose compiled kernels cannot be kept"""
    seed: int = 0
    """seed of all choices"""
    out: Path = Path("build/system")
    """folder for the runs and the results"""


class Fault(Exception):
    """A wrong behaviour of oche."""


def ended(code: int | str, said: str, *allowed: int | str) -> None:
    """Raise `Fault` unless a command ended with one of the exit codes ``allowed``, and with one line if not with 0."""
    if code not in allowed or "Traceback" in said or (code in (1, 2) and untidy(said)):
        raise Fault(f"exit code {code}: {said[-1500:]}")


def whole(run: Path) -> None:
    """Raise `Fault` unless every file of a run can be read."""
    try:
        for file in run.rglob("*.json"):
            json.loads(file.read_text())
        read_metrics(run)
        load_latest(run / "checkpoints", say=_damaged)
    except (ValueError, OSError) as error:
        raise Fault(f"{run} is not whole: {error}") from error


def _damaged(text: str) -> None:
    raise ValueError(text)


def same(run: Path, calm: Path) -> None:
    found, wanted = results(run), results(calm)
    if unequal := [key for key in wanted if found[key] != wanted[key]]:
        raise Fault(f"{run} is not {calm}: {', '.join(unequal)}")


def resume(run: Path) -> None:
    """Resume a run, or start it if it does not exist, and finish it."""
    ended(*call(["resume", str(run), "--quiet"]), 0)


# --- a disk that fills --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk(at: Path, kilobytes: int) -> Iterator[Callable[[str], None]]:
    """Mount a disk at ``at``; yield a function that changes its options, such as "size=9m" or "ro"."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(at)], check=True)
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(at)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def full_disk(kind: str, calm: Path, at: Path, rng: random.Random) -> str:
    """A run that fills its disk at some moment, and is resumed when there is space."""
    need = sum(file.stat().st_size for file in calm.rglob("*") if file.is_file()) // 1024
    with disk(at, rng.randint(8, need + 20)) as change:
        code, said = call([*KINDS[kind], "--out", str(at / "run")])
        ended(code, said, 0, 1, 2)
        if code:
            if os.strerror(errno.ENOSPC) not in said:
                raise Fault(f"says nothing of the disk: {said}")
            whole(at / "run")
            change("size=64m")
            again = (at / "run" / "status.json").exists()
            ended(
                *call(["resume", str(at / "run"), "--quiet"] if again else [*KINDS[kind], "--out", str(at / "run")]), 0
            )
        same(at / "run", calm)
    return "full" if code else "had room"


# --- a disk that may only be read ---------------------------------------------------------------------------------------


def read_only(kind: str, calm: Path, at: Path, rng: random.Random) -> str:
    """A command on a read-only run."""
    with disk(at, 65536) as change:
        shutil.copytree(calm, at / "run")
        (at / "images").mkdir()
        change("ro")
        run = str(at / "run")
        words = rng.choice((
            [*KINDS[kind], "--out", f"{at}/new"], [*KINDS[kind], "--out", run, "--overwrite"], ["resume", run], ["report", run],
            ["evaluate", run, "--quiet"], ["export", run, "--to", "safetensors"], ["show", run, "--out", f"{at}/x"],
            ["train", run, "--limit", "60"], ["predict", run, f"{at}/images", "--out", f"{at}/x.csv"],
        ))  # fmt: skip
        code, said = call(words)
        ended(code, said, 0, 1, 2)
        change("rw")
        same(at / "run", calm)
    return f"exit code {code}"


# --- two processes at one run -------------------------------------------------------------------------------------------


def _one_of_two(words: list[str], said: Path) -> None:
    torch.set_num_threads(1)
    oche.report.run_page.write_report = lambda path: path
    code, text = call(words)
    said.write_text(json.dumps([code, text]))


def two_at_once(kind: str, calm: Path, at: Path, rng: random.Random) -> str:
    """Two processes start the same run, the second a moment after the first."""
    at.mkdir(parents=True)
    files = [at / "first.json", at / "second.json"]
    words = [*KINDS[kind], "--out", str(at / "run")]
    processes = [SERVER.Process(target=_one_of_two, args=(words, file)) for file in files]
    for process in processes:
        process.start()
        time.sleep(rng.uniform(0, 0.05))
    for process in processes:
        process.join()
    found = sorted((json.loads(file.read_text()) for file in files), key=str)
    ended(*found[0], 0)
    ended(*found[1], 2)
    same(at / "run", calm)
    return "one works, one is refused"


# --- a clock that jumps -------------------------------------------------------------------------------------------------


class Jumping(datetime.datetime):
    """A clock that shows another year, hour and second at each call."""

    rng = random.Random(0)

    @classmethod
    def now(cls, tz: Any = None) -> Jumping:
        return cls.fromtimestamp(cls.rng.uniform(0, 4e9), tz)


def jumping_clock(kind: str, calm: Path, at: Path, rng: random.Random) -> str:
    """A run that is killed early, resumed, and moved aside, while files get random times."""
    from oche.runs import claim
    from oche.runs import directory as rundir

    Jumping.rng = rng
    clock = [mock.patch.object(module, "datetime", Jumping) for module in (rundir, claim)]
    clock.append(mock.patch("time.time", lambda: rng.uniform(0, 4e9)))
    run = at / "run"
    with contextlib.ExitStack() as jumps:
        for patch in clock:
            jumps.enter_context(patch)
        with killed_at(kind, rng.randint(1, 8)):
            call([*KINDS[kind], "--out", str(run)])
        for file in run.rglob("*"):
            os.utime(file, (rng.uniform(0, 4e9),) * 2)
        resume(run)
        same(run, calm)
        ended(*call([*KINDS[kind], "--out", str(run), "--overwrite"]), 0)
        same(run, calm)
    return "as undisturbed"


class _Killed(BaseException):
    pass


@contextlib.contextmanager
def killed_at(kind: str, step: int) -> Iterator[None]:
    """In this context, runs end at ``step``, as a kill would end them."""
    from oche.bilevel.search import Search
    from oche.training.image_trainer import Training

    task = {"search": Search, "training": Training}[kind]
    done = task.step

    def dying(self: Any, at: int, progress: float) -> None:
        if at == step:
            raise _Killed
        done(self, at, progress)

    with mock.patch.object(task, "step", dying):
        yield


# --- a disk for compiled kernels that does not take them -----------------------------------------------------------------


def useless_cache(kind: str, calm: Path, at: Path, rng: random.Random) -> str:
    """A run in a process of its own whose OCHE_CACHE is on a disk without the right to execute, read-only, or full."""
    trouble = rng.choice(("noexec", "ro", "size=64k"))
    del calm
    with disk(at / "cache", 65536) as change:
        change(trouble)
        words = "search --data digits --limit 60 --threads 1 --device cpu --space.channels 2 --space.cells 3 --search.steps 2"
        line = [sys.executable, "-m", "oche", *words.split(), "--search.batch", "8", "--out", str(at / "run")]
        environment = {**os.environ, "OCHE_CACHE": str(at / "cache")}
        done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=600)
        ended(done.returncode, done.stderr, 0)
        why = [said for said in done.stdout.splitlines() if "set OCHE_CACHE to a folder on another disk" in said]
        if len(why) != 1:
            raise Fault(f"{trouble}: the reason is said {len(why)} times: {done.stdout[-1500:]}")
        whole(at / "run")
    return trouble


# --- all ----------------------------------------------------------------------------------------------------------------

TROUBLES = {
    "disks": full_disk, "doors": read_only, "pairs": two_at_once, "clocks": jumping_clock, "caches": useless_cache,
}  # fmt: skip


def main(setting: Setting) -> None:
    shutil.rmtree(setting.out, ignore_errors=True)
    out = setting.out.resolve()
    torch.set_num_threads(1)
    oche.report.run_page.write_report = lambda path: path
    for kind, words in KINDS.items():
        ended(*call([*words, "--out", str(out / f"{kind}-calm")]), 0)
    rows = ["| trouble | runs | how they ended | faults |", "|---|---|---|---|"]
    with (out / "faults.txt").open("w") as faults:
        for name, trouble in TROUBLES.items():
            counts: Counter[str] = Counter()
            for number in range(count := getattr(setting, name)):
                kind = ("search", "training")[number % 2]
                rng, at = random.Random(f"{name} {setting.seed} {number}"), out / name / str(number)
                try:
                    counts[trouble(kind, out / f"{kind}-calm", at, rng)] += 1
                except Fault as fault:
                    counts["fault"] += 1
                    print(f"{name} {number}: {fault}\n", file=faults, flush=True)
            bad = counts.pop("fault", 0)
            rows.append(f"| {name} | {count} | {', '.join(f'{k}: {v}' for k, v in sorted(counts.items()))} | {bad} |")
            print(rows[-1], flush=True)
    (out / "table.md").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Setting, description=__doc__))
