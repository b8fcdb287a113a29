"""Run directories small enough for a test, and what to compare of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import oche
from oche.runs.checkpoint import load_weights
from oche.training.image_recipes import Recipe, small

FEW = ("none", "skip_connect", "sep_conv_3x3")  # candidates
SPACE = ["--space.candidates", *FEW, "--space.channels", "2", "--space.cells", "3", "--space.nodes", "1"]
TINY = ["--limit", "60", *SPACE, "--search.batch", "16", "--search.steps", "3"]  # words after `oche search`
TRAIN = [
    "--recipe",
    "small",
    "--train.channels",
    "2",
    "--train.cells",
    "3",
    "--train.steps",
    "2",
]  # after `oche train x`


CELL = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('sep_conv_3x3', 1)], reduce_concat=[2])"
)


def recipe(**fields) -> Recipe:
    return small(**{**dict(channels=2, cells=3, steps=2), **fields})


def no_report(patch) -> None:
    """Has runs and evaluations leave an empty report.html."""
    import oche.deploy.evaluate
    import oche.report.run_page

    def write(path, *of_evaluation):
        (Path(path) / "report.html").touch()
        return Path(path) / "report.html"

    patch.setattr(oche.report.run_page, "write_report", write)
    patch.setattr(oche.deploy.evaluate, "write_assessment_page", write)


def search(out: Path, data: str | Path = "digits", method=None, **fields) -> oche.Run:
    """Three steps on 60 digits."""
    method = method or oche.methods.darts(order=2, batch=16, steps=3)
    space = oche.spaces.darts(channels=2, cells=3, nodes=1, candidates=FEW)
    return oche.search(data, **{**dict(space=space, method=method, out=out, limit=60), **fields})


def metrics(path: Path) -> list[dict]:
    """The records of a run without the times they took."""
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "timings"} for record in records]


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, bit for bit."""
    a, b = (load_weights(path / "weights.safetensors") for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def npz(path: Path, classes: int = 4, channels: int = 3, side: int = 12) -> Path:
    """A colour data set of its own in one file."""
    g = np.random.default_rng(0)
    shape = (side, side, channels) if channels > 1 else (side, side)
    y = np.arange(32) % classes
    x = g.integers(0, 150, (32, *shape), dtype=np.uint8) + (25 * y).astype(np.uint8).reshape(-1, *[1] * len(shape))
    np.savez(path, x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    return path


def unsplit_npz(path: Path) -> Path:
    """The training images of `npz` without a test part."""
    with np.load(npz(path)) as both:
        x, y = both["x_train"], both["y_train"]
    np.savez(path, x=x, y=y)
    return path
