"""A day with a GPU in one command: correctness of every form, times, several GPUs, searches and a training.

    python benchmarks/gpu.py --minutes 8
    python benchmarks/gpu.py --minutes 30 --data cifar10 --reference path/to/darts path/to/pc-darts --out runs/gpu
    python benchmarks/gpu.py --device cpu --tiny --minutes 2

OUT/gpu.json has the results and OUT/gpu.md their tables. Both are written after each piece, and the same line goes on with the
pieces that are missing. Each piece runs in a process of its own and is ended when its part of the minutes is over. Without
--data the images are random, so times count and accuracies do not. No GPU has run this script yet.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from oche.bench.interleaved import measure_forms
from oche.bench.settings import BenchConfig
from oche.bench.table import forms_for, markdown
from oche.core.atomic_files import read_json, to_json, write_bytes
from oche.core.environment import describe_environment
from oche.core.errors import OcheError
from oche.core.genotypes import DARTS_V2
from oche.devices.engine import Engine
from oche.methods.catalog import METHODS
from oche.proof.prove import prove
from oche.proof.values import Verdict
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.plan import SearchPlan, TrainPlan
from oche.runs.proving import step_of
from oche.spaces import SPACES
from oche.training.image_recipes import modern

Stage = Literal["forms", "table", "ranks", "searches", "training"]
#: share of the minutes that a stage may use. What it leaves goes to the stages after it
SHARES: dict[Stage, float] = {"forms": 0.28, "table": 0.26, "ranks": 0.1, "searches": 0.2, "training": 0.16}
SEARCHES = ("gdas", "beta-darts", "darts", "darts-2nd", "pc-darts")
CELL = "DARTS_V2"
TINY_SPACE = ["--space.channels", "2", "--space.cells", "1"]
TINY_TRAIN = ["--train.channels", "2", "--train.cells", "3"]


@dataclass(frozen=True)
class Setting:
    minutes: float = 8.0
    """minutes after which the last piece ends"""
    out: Path = Path("runs/gpu")
    """folder for results, tables and runs"""
    device: str = "cuda"
    """cuda, cuda:1, cpu"""
    data: str = ""
    """images for searches and training, as for oche search; by default random ones"""
    reference: tuple[Path, ...] = ()
    """checkouts of the published code of DARTS and PC-DARTS, timed beside oche's forms"""
    stages: tuple[Stage, ...] = ("forms", "table", "ranks", "searches", "training")
    """stages to run"""
    tiny: bool = False
    """the smallest sizes, to try the script itself"""
    piece: str = ""
    """one piece of a stage, in this process: the script calls itself with it"""
    limit: float = 60.0
    """seconds for that piece"""


@dataclass
class Piece:
    """One measurement: a name, and a function of the seconds it may take that returns plain values."""

    stage: Stage
    name: str
    run: Callable[[float], dict[str, Any]]

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.name}"


@dataclass
class Day:
    """The pieces, their results, and the time that is left."""

    setting: Setting
    began: float = field(default_factory=lambda: time.monotonic())
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.setting.out / "gpu.json"

    def left(self) -> float:
        return 60 * self.setting.minutes - (time.monotonic() - self.began)

    def pieces(self) -> list[Piece]:
        """All pieces of the chosen stages, in order."""
        s = self.setting
        works = ("first",) if s.tiny else ("first", "second", "gdas", "pc-darts", "train")
        steps = (
            ("darts",) if s.tiny else ("darts", "darts-2nd", "gdas", "pc-darts", "modern", "modern-bf16", "darts-bf16")
        )
        searches = ("gdas",) if s.tiny else SEARCHES
        found = [
            *(Piece("forms", name, lambda limit, name=name: prove_forms(s, name, limit)) for name in steps),
            *(Piece("table", work, lambda limit, work=work: self.call(f"table/{work}", limit)) for work in works),
            *(Piece("ranks", str(n), lambda limit, n=n: ranks(s, n, limit)) for n in rank_counts(s)),
            *(Piece("searches", name, lambda limit, name=name: search(s, name, limit)) for name in searches),
            Piece("training", CELL, lambda limit: training(s, limit)),
        ]
        return [piece for piece in found if piece.stage in s.stages]

    def call(self, piece: str, limit: float) -> dict[str, Any]:
        """Run a piece in another process of this script; its result is the file that it leaves, also if it is ended."""
        file = self.setting.out / f"{piece.replace('/', '-')}.json"
        file.unlink(missing_ok=True)
        words = [sys.executable, __file__, "--piece", piece, "--limit", str(limit), "--out", str(self.setting.out)]
        words += ["--device", self.setting.device, *(["--tiny"] if self.setting.tiny else [])]
        words += ["--reference", *map(str, self.setting.reference)] if self.setting.reference else []
        ended = run(words, limit, self.setting.out / f"{piece.replace('/', '-')}.log")
        found = read_json(file)
        if not found:
            return {"failed": ended or "it left no result"}
        return found | ({"note": ended} if ended else {})

    def go(self) -> dict[str, Any]:
        """Run the pieces that are missing, and write results and tables after each."""
        kept = read_json(self.file)
        if kept and kept.get("device") != self.setting.device:
            raise OcheError(f"{self.file} is of device {kept.get('device')}; choose another --out")
        self.results = kept.get("pieces", {})
        engine = Engine(self.setting.device)
        print(f"{engine.device}: {describe_environment(str(engine.device)).get('gpu') or 'no GPU'}", flush=True)
        todo = [piece for piece in self.pieces() if "failed" in self.results.get(piece.key, {"failed": ""})]
        for i, piece in enumerate(todo):
            limit = self._limit(todo[i:])
            if limit < 1:
                break
            print(f"{piece.key}: up to {limit:.0f} s of {self.left():.0f} s", flush=True)
            started = time.monotonic()
            try:
                found = piece.run(limit)
            except Exception as error:
                found = {"failed": f"{type(error).__name__}: {error}".split("\n")[0]}
            self.results[piece.key] = {**found, "took": round(time.monotonic() - started, 2)}
            self.write()
        return self.results

    def _limit(self, todo: list[Piece]) -> float:
        """Seconds of the next piece. A stage's share of the minutes is divided among its pieces, and so is time that was left."""
        counts = Counter(piece.stage for piece in self.pieces())
        weights = [SHARES[piece.stage] / counts[piece.stage] for piece in todo]
        return (self.left() - 2) * weights[0] / sum(weights)

    def write(self) -> None:
        """Write the results and their tables."""
        tree = {
            "device": self.setting.device, "tiny": self.setting.tiny, "data": self.setting.data or "random images",
            "machine": describe_environment(self.setting.device), "pieces": self.results,
        }  # fmt: skip
        write_bytes(self.file, to_json(tree, 1).encode())
        write_bytes(self.file.with_suffix(".md"), page(tree).encode())


def run(words: list[str], limit: float, log: Path, **environment: str) -> str:
    """Run a command with its output in ``log``; end it after ``limit`` seconds. Return why it failed, "" if it did not."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(f"$ {shlex.join(words)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            words,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            return f"ended after {limit:.0f} s"
        except BaseException:
            os.killpg(process.pid, 9)
            raise
    lines = log.read_text(errors="replace").strip().splitlines()
    return "" if code == 0 else f"exit code {code}: {lines[-1][:200]}"


# --- (a) correctness of every form --------------------------------------------------------------------------------------


class Images:
    """What a step must know of its images."""

    def __init__(self, tiny: bool) -> None:
        self.image, self.channels, self.classes = ((8, 8) if tiny else (32, 32)), 3, tuple("0123456789")


def plan_of(setting: Setting, name: str) -> SearchPlan | TrainPlan:
    """The plan whose steps are proved, at published size."""
    tiny, base = setting.tiny, name.removesuffix("-bf16")
    precision = "bf16" if name.endswith("-bf16") else "float32"
    sizes = {"precision": precision, **({"batch": 4} if tiny else {})}
    data: Any = Images(tiny)
    if base == "modern":
        recipe = modern(**sizes, **({"channels": 2, "cells": 3} if tiny else {}))
        return TrainPlan(TrainConfig(genotype=str(DARTS_V2), recipe="modern", train=recipe), data)
    small = {"channels": 4, "cells": 3, "nodes": 2} if tiny else {}
    space = SPACES["darts"](image=data.image, **small)
    return SearchPlan(SearchConfig(method=base, space=space, search=METHODS[base].make(**sizes)), data, None)


def prove_forms(setting: Setting, name: str, limit: float) -> dict[str, Any]:
    """Try every form of a step; see `oche.proof`."""
    step, forms = step_of(plan_of(setting, name), Engine(setting.device))
    verdict = prove(step, forms, deadline=limit, patience=limit)
    found = {"verdict": verdict.to_dict()}
    return found | ({"failed": verdict.obstacle} if verdict.obstacle else {})


# --- (b) times of all works in all forms ----------------------------------------------------------------------------------


def measure_table(setting: Setting, work: str, limit: float) -> None:
    """Time ``work`` in all forms, in one round and then in five if there is time, and write each result at once."""
    began = time.monotonic()
    file = setting.out / f"table-{work}.json"
    if setting.tiny:
        sizes: dict[str, Any] = dict(
            batch=2, channels=4, cells=3, nodes=1, candidates=4, train_channels=4, train_cells=3, image=8
        )
    else:
        sizes = dict(batch={"pc-darts": 256, "train": 96}.get(work, 64), steps=3)
    for rounds in (1, 5):
        config = BenchConfig(works=(work,), reference=setting.reference, device=setting.device, rounds=rounds, **sizes)
        if setting.tiny:
            config = BenchConfig(
                works=(work,), device=setting.device, rounds=rounds, forms=("plain-nchw", "plain"), **sizes
            )
        forms = forms_for(config, work, Engine(setting.device).device.type)
        results = measure_forms(config, work, forms)
        rows = {
            form: {"seconds": r.median, "memory": r.memory, "n": len(r.times), "note": r.note}
            for form, r in results.items()
        }
        write_bytes(
            file, to_json({"rows": rows, "batch": config.batch, "page": markdown(config, {work: results})}, 1).encode()
        )
        took = time.monotonic() - began
        if took + 3 * took > limit:
            return


# --- (c) several GPUs -----------------------------------------------------------------------------------------------------


def rank_counts(setting: Setting) -> list[int]:
    """1, and as many as there are GPUs; two processes on a CPU."""
    count = torch.cuda.device_count() if setting.device.startswith("cuda") else 2
    return [2] if setting.tiny else sorted({1, max(1, count)})


def ranks(setting: Setting, count: int, limit: float) -> dict[str, Any]:
    """Train some steps on ``count`` ranks, each with the batch of one."""
    out = setting.out / f"ranks-{count}"
    steps, batch = ("2", 8) if setting.tiny else ("60", 96)
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    words = [sys.executable, *words, "-m", "oche", "train", CELL, "--recipe", "modern", *data_words(setting)]
    words += ["--train.batch", str(batch * count), "--train.steps", steps, "--device", setting.device.partition(":")[0]]
    words += [*(TINY_TRAIN if setting.tiny else []), "--out", str(out), "--overwrite", "--engine", "plain"]
    return outcome(out, run(words, limit, setting.out / f"ranks-{count}.log"), batch=batch * count)


# --- (d) searches, (e) a training -------------------------------------------------------------------------------------------


def search(setting: Setting, name: str, limit: float) -> dict[str, Any]:
    """Search NAS-Bench-201 at published size for half of the time; the rest is for proofs and the report."""
    out = setting.out / f"search-{name}"
    words = ["--data", *data_words(setting)[1:], "--space", "nb201", "--method", name]
    words += ["--search.budget", budget(setting, limit / 2), "--device", setting.device]
    words += [*TINY_SPACE, "--search.batch", "8"] if setting.tiny else []
    return begin_or_resume(setting, out, "search", words, limit)


def budget(setting: Setting, seconds: float) -> str:
    return "1s" if setting.tiny else f"{max(1, int(seconds))}s"


def training(setting: Setting, limit: float) -> dict[str, Any]:
    """Train DARTS_V2 by `modern` for the time that is left."""
    words = [CELL, "--recipe", "modern", *data_words(setting)]
    words += ["--train.budget", budget(setting, 0.6 * limit), "--device", setting.device]
    words += [*TINY_TRAIN, "--train.batch", "8"] if setting.tiny else []
    return begin_or_resume(setting, setting.out / f"train-{CELL}", "train", words, limit)


def begin_or_resume(setting: Setting, out: Path, command: str, words: list[str], limit: float) -> dict[str, Any]:
    """Run `oche`, or resume a run that an earlier call of this script began."""
    line = ["resume", str(out)] if (out / "status.json").exists() else [command, *words, "--out", str(out)]
    ended = run(
        [sys.executable, "-m", "oche", *line],
        limit,
        out.with_suffix(".log"),
        OCHE_PROOF="auto" if setting.tiny else "always",
    )
    return outcome(out, ended)


def outcome(out: Path, ended: str, batch: int | None = None) -> dict[str, Any]:
    """What a run left: results, time of a step, and the form of its steps."""
    summary = read_json(out / "summary.json")
    if not summary:
        return {"failed": ended or "it left no summary"}
    names = ("steps", "seconds", "step_ms", "genotype", "val_acc", "test_acc", "parameters")
    found: dict[str, Any] = {name: summary[name] for name in names if name in summary}
    found |= {"computes": read_json(out / "space.json").get("computes"), **({} if batch is None else {"batch": batch})}
    return found | ({"note": ended} if ended else {})


def data_words(setting: Setting) -> list[str]:
    """The option that names the images; random ones are made once."""
    if setting.data:
        return ["--data", setting.data]
    file = setting.out / "random.npz"
    if not file.exists():
        images, side = (64, 8) if setting.tiny else (20_000, 32)
        g = np.random.default_rng(0)
        y = np.arange(images) % 10
        x = g.integers(0, 150, (images, side, side, 3), dtype=np.uint8) + (10 * y).astype(np.uint8)[:, None, None, None]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, x_train=x, y_train=y, x_test=x[: images // 10], y_test=y[: images // 10])
    return ["--data", str(file)]


# --- the page -----------------------------------------------------------------------------------------------------------


def page(tree: dict[str, Any]) -> str:
    """The tables as Markdown."""
    m, pieces = tree["machine"], tree["pieces"]
    head = f"{m.get('gpu') or m['cpu']}, torch {m['torch']}, oche {m['oche']}, commit {m['commit']}, {m['time']}"
    parts = [
        f"# {m.get('gpu') or m['cpu']}",
        head,
        f"Data: {tree['data']}." + (" Tiny sizes: no measurement." if tree["tiny"] else ""),
    ]
    parts += [
        "## Correctness of every form",
        _rows(("step", "form", "agrees", "ms a step", "memory", "largest errors"), _proof_rows(pieces)),
    ]
    for key, found in _of(pieces, "table"):
        if "page" in found:
            parts += [f"## Time of a step: {key}", *found["page"].split("\n\n")[2:]]
    for stage, title in (
        ("ranks", "Ranks"),
        ("searches", "Searches on NAS-Bench-201"),
        ("training", "Training of DARTS_V2"),
    ):
        columns = ("steps", "seconds", "step_ms", "batch", "val_acc", "test_acc", "computes", "note", "failed")
        rows = [(key, *(_text(found.get(name, "")) for name in columns)) for key, found in _of(pieces, stage)]
        parts += [f"## {title}", _rows(("", *columns), rows)]
    return "\n\n".join(parts) + "\n"


def _of(pieces: dict[str, Any], stage: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, found in pieces.items():
        if key.startswith(f"{stage}/"):
            yield key.partition("/")[2], found


def _proof_rows(pieces: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, found in _of(pieces, "forms"):
        if "verdict" not in found or found.get("failed"):
            yield key, "", "", "", "", found.get("failed", "")
            continue
        for proof in Verdict.from_dict(found["verdict"]).proofs:
            memory = "" if proof.memory is None else f"{proof.memory / 2**30:.2f} GiB"
            ms = "" if proof.seconds is None else f"{1000 * proof.seconds:.3g}"
            errors = ", ".join(f"{name} {_text(value)}" for name, value in proof.errors.items())
            yield key, proof.form.name, "yes" if proof.agrees else f"no: {proof.why}", ms, memory, errors


def _rows(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def main(setting: Setting) -> int:
    if setting.piece:
        measure_table(setting, setting.piece.partition("/")[2], setting.limit)
        return 0
    if setting.minutes <= 0:
        raise OcheError(f"minutes={setting.minutes} leave no time; use more than 0")
    day = Day(setting)
    results = day.go()
    day.write()
    print(day.file.with_suffix(".md").read_text())
    missing = [piece.key for piece in day.pieces() if "failed" in results.get(piece.key, {"failed": ""})]
    if missing:
        print(f"missing: {', '.join(missing)}; the same line goes on with them", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Setting, description=__doc__)))
    except (OcheError, json.JSONDecodeError) as error:
        sys.exit(f"gpu.py: {error}")
