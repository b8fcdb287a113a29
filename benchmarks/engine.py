"""Time the engine on a CPU against the published code and plain modules: training, search, prediction, and the first step.

    python benchmarks/engine.py --reference path/to/darts --out benchmarks/results/DATE_engine_cpu

One row after another runs in a process of its own, with one thread. The versions of a row take turns there, and the time is
that of the process, so other work on the machine counts little. Every row is saved at once; the same line goes on with what
is missing. ``--only`` runs some rows, ``--tiny`` tries the script at small sizes. OUT.json and OUT.md are written.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import oche
from oche.bench.settings import REFERENCE, BenchConfig
from oche.bench.steps import NchwEngine, random_images, steps_of, use_form
from oche.bilevel.search import Search
from oche.core import atomic_files as atomic
from oche.core.environment import describe_environment
from oche.core.errors import OcheError
from oche.core.genotypes import GENOTYPES, resolve
from oche.deploy.export import Export, export
from oche.devices.engine import Engine
from oche.kernels.cpu import discrete
from oche.methods import published
from oche.spaces import SPACES
from oche.training.image_recipes import Recipe, darts, modern
from oche.training.image_trainer import Training

Step = Callable[[], object]
EPOCH = 8  # steps of an epoch of random images
NCHW, PLAIN, OWN, BF16 = "plain NCHW", "plain channels_last", "compiled", "compiled, bf16"


@dataclass(frozen=True)
class Sizes:
    """The sizes of a row: batch, side of the images, channels and cells of the network."""

    batch: int
    side: int = 32
    channels: int = 36
    cells: int = 20

    @property
    def tiny(self) -> Sizes:
        return Sizes(2, 16, 4, 3)


@dataclass(frozen=True)
class Row:
    """A row of the table. ``make`` returns a step of each version, the first of which is the base, in its child process."""

    title: str
    sizes: Sizes
    make: Callable[[Sizes, Path | None], dict[str, Step]]
    required: float | None = None
    aim: float | None = None


def versions(make: dict[str, Callable[[], Step]]) -> dict[str, Step]:
    """Make every version that this machine and these options allow."""
    made: dict[str, Step] = {}
    for name, version in make.items():
        with suppress(OcheError):
            made[name] = version()
    return made


class Turns:
    """Steps of a training or search at half progress."""

    def __init__(self, task: Training | Search, form: str) -> None:
        use_form(task.net, form)
        self.task, self.done = task, 0

    def __call__(self) -> None:
        if self.done % self.task.per_epoch() == 0:
            self.task.begin(self.done // self.task.per_epoch(), 0)
        self.task.step(self.done, 0.5)
        self.done += 1


def training(
    genotype: str, sizes: Sizes, form: str, *, nchw: bool = False, precision: str = "float32", of: Any = darts
) -> Step:
    engine = (NchwEngine if nchw else Engine)("cpu", 1, fused="plain")
    recipe: Recipe = of(channels=sizes.channels, cells=sizes.cells, batch=sizes.batch)
    data = random_images(2 * EPOCH * sizes.batch, sizes.side)
    task = Training(resolve(genotype), replace(recipe, precision=precision), data, seed=0, engine=engine, title="step")
    if precision == "bf16" and not discrete.has_bf16():
        raise OcheError("this processor multiplies no bfloat16 numbers")
    return Turns(task, form)


def published_step(work: str, sizes: Sizes, reference: Path | None) -> Step:
    if reference is None or sizes.side != 32:
        raise OcheError("no published code")
    setting = BenchConfig(
        device="cpu", threads=1, batch=sizes.batch, train_channels=sizes.channels, train_cells=sizes.cells,
        reference=(reference,),
    )  # fmt: skip
    return steps_of(setting, work, REFERENCE)


def train_rows(sizes: Sizes, reference: Path | None) -> dict[str, Step]:
    train = partial(training, "DARTS_V2", sizes)
    return versions(
        {
            "published code": lambda: published_step("train", sizes, reference),
            NCHW: lambda: train("plain", nchw=True),
            PLAIN: lambda: train("plain"),
            OWN: lambda: train("native"),
            BF16: lambda: train("native", precision="bf16"),
        }
    )


def large_rows(sizes: Sizes, reference: Path | None) -> dict[str, Step]:
    """Without the plain modules, whose steps take as long as those of the published code."""
    train = partial(training, "DARTS_V2", sizes)
    return versions(
        {
            "published code": lambda: published_step("train", sizes, reference),
            OWN: lambda: train("native"),
            BF16: lambda: train("native", precision="bf16"),
        }
    )


def small_rows(sizes: Sizes, reference: Path | None) -> dict[str, Step]:
    return train_rows(sizes, None)


def cell_rows(sizes: Sizes, reference: Path | None, genotype: str) -> dict[str, Step]:
    train = partial(training, genotype, sizes, of=modern)
    return versions(
        {
            PLAIN: lambda: train("plain"),
            OWN: lambda: train("native"),
            BF16: lambda: train("native", precision="bf16"),
        }
    )


def search_rows(sizes: Sizes, reference: Path | None, stem: str = "cifar") -> dict[str, Step]:
    def search(form: str, nchw: bool = False) -> Step:
        engine = (NchwEngine if nchw else Engine)("cpu", 1, fused="plain")
        space = SPACES["darts"](
            image=(sizes.side, sizes.side), channels=sizes.channels, cells=sizes.cells, stem=stem, classes=10
        )
        data = random_images(2 * EPOCH * sizes.batch, sizes.side)
        return Turns(Search(space, published.darts(batch=sizes.batch), data, seed=0, engine=engine), form)

    at_published_size = stem == "cifar" and (sizes.channels, sizes.cells) == (16, 8)
    return versions(
        {
            "published code": lambda: published_step("first", sizes, reference if at_published_size else None),
            NCHW: lambda: search("plain", nchw=True),
            PLAIN: lambda: search("plain"),
            OWN: lambda: search("native"),
        }
    )


def strided_search_rows(sizes: Sizes, reference: Path | None) -> dict[str, Step]:
    return search_rows(sizes, reference, "stride4")


def prediction_rows(sizes: Sizes, reference: Path | None) -> dict[str, Step]:
    """Predictions of a small trained network: plain PyTorch, `oche.load`, and exported ONNX in float32 and 8 bits."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        data = write_images(Path(folder) / "data", sizes.side)
        run = oche.train(
            "DARTS_V2", data=str(data), out=Path(folder) / "run", recipe="small", steps=2, batch=4, channels=sizes.channels,
            cells=sizes.cells, device="cpu", quiet=True,
        )  # fmt: skip
        x = torch.randn(sizes.batch, 3, sizes.side, sizes.side)
        net = oche.build("DARTS_V2", classes=2, channels=sizes.channels, cells=sizes.cells, image=sizes.side).eval()
        loaded = oche.load(run)
        fast = loaded.for_inference()
        steps: dict[str, Step] = {
            "plain PyTorch": lambda: predict(net, x),
            "oche.load": lambda: predict(loaded, x),
            "oche.load, for_inference": lambda: predict(fast, x),
        }
        for name, how in {"ONNX float32": Export("onnx"), "ONNX int8": Export("onnx", int8=True)}.items():
            file = Path(folder) / f"{name}.onnx"
            export(run, how, out=file, card=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
            feed = {session.get_inputs()[0].name: x.numpy()}
            steps[name] = partial(session.run, None, feed)
        return steps


@torch.no_grad()
def predict(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return net(x)


def write_images(folder: Path, side: int, count: int = 40) -> Path:
    """Write a folder of random images of two classes."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for i in range(count):
        file = folder / f"class{i % 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file)
    return folder


ROWS = {
    "train-b16": Row("training step, DARTS_V2 20 cells C = 36, batch 16", Sizes(16), train_rows, 3.5, 5),
    "train-b96": Row("training step, DARTS_V2 20 cells C = 36, batch 96", Sizes(96), large_rows, 3.5, 5),
    "small-8": Row("training step, DARTS_V2 8 cells C = 16, batch 64", Sizes(64, 32, 16, 8), small_rows, 3, 5),
    "small-14": Row("training step, DARTS_V2 14 cells C = 16, batch 64", Sizes(64, 32, 16, 14), small_rows, 3, 5),
    "search": Row("first-order search step, 8 cells C = 16, batch 16", Sizes(16, 32, 16, 8), search_rows, 8, 10),
    "search-64": Row(
        "search step, 64 × 64 pixels, stem of stride 4, batch 16", Sizes(16, 64, 16, 8), strided_search_rows, 4, 8
    ),
    "predict-b1": Row("prediction, DARTS_V2 8 cells C = 16, batch 1", Sizes(1, 32, 16, 8), prediction_rows, 2, 4),
    "predict-b64": Row("prediction, DARTS_V2 8 cells C = 16, batch 64", Sizes(64, 32, 16, 8), prediction_rows, 2, 4),
}
ROWS |= {
    f"cell-{name}": Row(
        f"training step, {name} {'1 cell a stage' if name == 'RESNET' else '4 cells'} C = 16, batch 16",
        Sizes(16, 32, 16, 1 if name == "RESNET" else 4),
        partial(cell_rows, genotype=name),
        1.0,
    )
    for name, found in GENOTYPES.items()
    if "recurrent" not in found.genotype.cells
}
FIRST = "first-step"


def measure(row: Row, rounds: int, reference: Path | None, tiny: bool) -> dict[str, list[float]]:
    """Return seconds of the process for every version of ``row``, ``rounds`` each, in turns."""
    torch.set_num_threads(1)
    steps = row.make(row.sizes.tiny if tiny else row.sizes, reference)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            began, count = time.process_time(), 0
            while count == 0 or time.process_time() - began < 0.2 * (not tiny):  # short steps are repeated
                step()
                count += 1
            times[name].append((time.process_time() - began) / count)
    return times


FIRST_STEP = """
import sys
import oche
from oche.bench.steps import random_images
from oche.core.genotypes import resolve
from oche.devices.engine import Engine
from oche.training.image_recipes import darts
from oche.training.image_trainer import Training
task = Training(resolve("DARTS_V2"), darts(channels=16, cells=8, batch=16), random_images(32, 32), seed=0,
                engine=Engine("cpu", 1, fused=sys.argv[1]), title="first")
task.begin(0, 0)
task.step(0, 0.5)
"""


def first_step() -> dict[str, list[float]]:
    """Return seconds of the processes (children too) from the start of Python to the end of the first training step."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, engine in (("plain", "plain"), ("cold cache", "auto"), ("warm cache", "auto")):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            environment = {
                **os.environ,
                "OCHE_CACHE": cache,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            subprocess.run([sys.executable, "-c", FIRST_STEP, engine], check=True, env=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[name] = [after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime]
    return found


def page(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["# Engine on a CPU", "", f"{found['machine']}", ""]
    lines += [
        "Milliseconds of the process for one step, one thread: median (smallest–largest), n. The versions of a row take turns in",
        "one process. ×: how many times as fast as the first version of the row.",
        "",
        "| work | version | ms | n | × | required |",
        "|---|---|---|---|---|---|",
    ]
    for name, times in found["rows"].items():
        row = ROWS.get(name)
        title = (
            row.title
            if row
            else "from the start of Python to the end of the first training step, 8 cells C = 16, batch 16"
        )
        base = None if row is None else median(next(iter(times.values())))
        required = "" if row is None or row.required is None else f"{row.required:g}"
        for version, seconds in times.items():
            ms = [1000 * s for s in sorted(seconds)]
            digits = 0 if ms[0] >= 100 else 2
            numbers = f"{median(ms):,.{digits}f} ({ms[0]:,.{digits}f}–{ms[-1]:,.{digits}f})"
            ratio = "" if base is None else f"{base / median(seconds):.2f}"
            lines.append(f"| {title} | {version} | {numbers} | {len(ms)} | {ratio} | {required} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    e = describe_environment("cpu")
    return f"{e['cpu']}, 1 thread, torch {e['torch']}, commit {e['commit']}, {e['time']}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="results: OUT.json and OUT.md")
    parser.add_argument("--reference", type=Path, help="checkout of github.com/quark0/darts")
    parser.add_argument("--only", nargs="+", choices=[*ROWS, FIRST], help="these rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small sizes: try the script")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.child:
        print(json.dumps(measure(ROWS[given.child], given.rounds, given.reference, given.tiny)))
        return 0
    file = given.out.with_suffix(".json")
    found = json.loads(file.read_text()) if file.exists() else {"machine": machine(), "rows": {}}
    for name in given.only or [*ROWS, FIRST]:
        if name in found["rows"]:
            continue
        if name == FIRST:
            found["rows"][name] = first_step()
        else:
            own = [word for word in (words or sys.argv[1:]) if word != "--child"]
            done = subprocess.run(
                [sys.executable, __file__, *_without_only(own), "--child", name],
                capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            if done.returncode:
                print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            found["rows"][name] = json.loads(done.stdout.strip().splitlines()[-1])
        atomic.write_bytes(file, json.dumps(found, indent=1).encode())
        print(f"{name}: { ({k: round(1000 * median(v), 1) for k, v in found['rows'][name].items()}) }", file=sys.stderr)
    atomic.write_bytes(given.out.with_suffix(".md"), page(found).encode())
    return 0


def _without_only(words: Sequence[str]) -> list[str]:
    """Return ``words`` without the option --only and its values."""
    kept, skipping = [], False
    for word in words:
        skipping = word == "--only" or (skipping and not word.startswith("--"))
        if not skipping:
            kept.append(word)
    return kept


if __name__ == "__main__":
    sys.exit(main())
