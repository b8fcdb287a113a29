"""Numbers that are not finite, in files and in runs; and tensors of wrong shapes, types and devices for a loaded network."""

from __future__ import annotations

import copy
import shutil
from functools import cache
from math import inf, nan
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from judge import Case
from sound import Sound, image

import oche
from oche.core.finite import all_finite
from oche.runs.checkpoint import load_weights, save_weights, weights_metadata

BROKEN = (nan, inf, -inf, nan, inf, 3e38, -3e38)  # the last two are numbers, whose products may not be


def broken(rng: Random, sound: Sound, at: Path) -> Case:
    """A network of which some weights or statistics are not finite: refused wherever it is used."""
    kind = rng.choice(("training", "training", "language", "exported"))
    run, file = at / "run", at / "run" / "weights.safetensors"
    if kind == "exported":
        file = run = at / "model.safetensors"
        shutil.copy(sound.exported, file)
    else:
        shutil.copytree(sound.root / kind, run, ignore=shutil.ignore_patterns("events.*", "report.html", "pictures"))
    value = _spoil(rng, file)
    folder = at / "images"
    folder.mkdir()
    (folder / "x.png").write_bytes(image("PNG"))
    uses = {
        "language": [("evaluate", str(run))],
        "exported": [("predict", str(run), str(folder), "--out", str(at / "x.csv"))],
    }
    of_training = [
        ("evaluate", str(run)), ("export", str(run), "--to", "safetensors"), ("export", str(run), "--to", "torch-export"),
        ("predict", str(run), str(folder), "--out", str(at / "x.csv")), ("resume", str(run)),
    ]  # fmt: skip
    words = rng.choice(uses.get(kind, of_training))
    harmless = words[0] == "resume" or abs(value) < inf  # a complete run has nothing to resume
    return Case((*words, "--quiet"), (file,), lambda: "" if harmless else f"{words[0]} used weights of {value}")


def _spoil(rng: Random, file: Path) -> float:
    """Set some values of one tensor, and write the file with a sound hash. Return the value."""
    tensors, metadata = load_weights(file), weights_metadata(file)
    floats = [name for name, t in tensors.items() if t.is_floating_point() and t.numel()]
    flat, value = tensors[rng.choice(floats)].view(-1), rng.choice(BROKEN)
    for _ in range(rng.choice((1, 1, 3, flat.numel()))):
        flat[rng.randrange(flat.numel())] = value
    save_weights(file, tensors, metadata)
    return value


def diverging(rng: Random, sound: Sound, at: Path) -> Case:
    """A run whose numbers leave their range at some moment: it fails in one line, or ends with finite weights."""
    out, power = at / "run", rng.randint(2, 37)
    rate = f"{rng.uniform(1, 9):.3f}e{power}"
    common = [
        "--out",
        str(out),
        "--threads",
        "1",
        "--engine",
        "plain",
        "--device",
        "cpu",
        "--quiet",
        "--checkpoint",
        "0",
    ]
    kind = rng.choice(("train", "train", "search", "language"))
    if kind == "train":
        words = ["train", "DARTS_V2", "--data", "digits", "--limit", "40", "--recipe", "small", "--train.channels", "2"]
        words += [
            "--train.cells",
            "3",
            "--train.batch",
            "20",
            "--train.w.lr",
            rate,
            "--train.steps",
            str(rng.randint(1, 4)),
        ]
        words += rng.choice(([], ["--train.ema", "0.9"], ["--train.w.clip", "0"], ["--train.split", "0.5"]))
    elif kind == "search":
        words = ["search", "--data", "digits", "--limit", "40", "--space.channels", "2", "--space.cells", "3"]
        words += ["--search.batch", "8", "--search.steps", str(rng.randint(1, 3))]
        words += [rng.choice(("--search.method.weight-optimizer.lr", "--search.method.arch-optimizer.lr")), rate]
        words += rng.choice(([], ["--search.method.weight-optimizer.clip", "0"]))
    else:
        words = [
            "train",
            "DARTS_RNN_V2",
            "--data",
            str(sound.text),
            "--recipe",
            "recurrent-small",
            "--train.width",
            "6",
        ]
        words += ["--train.batch", "4", "--train.w.lr", rate, "--train.steps", str(rng.randint(1, 6))]

    def check() -> str:
        weights = load_weights(out / "weights.safetensors")
        return "" if all_finite(weights.values()) else f"{out} is complete with weights that are not finite"

    return Case((*words, *common), (), check)


# --- tensors for a loaded network ---------------------------------------------------------------------------------------


@cache
def _network(file: Path) -> Any:
    return oche.load(file)


_DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int64,
    torch.bool,
    torch.int16,
)


def tensors(rng: Random, sound: Sound, at: Path) -> Case:
    """A call of a loaded network with a tensor, array or other thing that it may not take."""
    net = _network(sound.exported)
    c, (h, w) = net.about.channels, net.image
    sides = {"b": rng.choice((1, 2, 5)), "c": c, "h": h, "w": w, "n": rng.choice((1, 2, 3, 4, 7, 40))}
    shape = tuple(sides[letter] for letter in rng.choice(
        ("bchw", "bchw", "chw", "bhwc", "hwc", "hw", "bhw", "bnhw", "bhwn", "bchn", "bcnw", "n", "", "bbchw", "nn")
    ))  # fmt: skip
    x = torch.zeros(shape, dtype=rng.choice(_DTYPES), device=rng.choice(("cpu", "cpu", "cpu", "meta")))
    on_cpu = x.device.type == "cpu" and x.dtype != torch.bfloat16
    forms = [x, x, x, [x], None, "x.png", *([x.numpy(), x.numpy().astype(object), x.tolist()] if on_cpu else [])]
    given = rng.choice(forms)
    calls = {"net": net, "prepare": net.prepare, "probabilities": net.probabilities, "features": net.features()}
    name = rng.choice([*calls])

    def check() -> str:
        right = isinstance(given, torch.Tensor | np.ndarray) and len(given.shape) == 4 and given.shape[1] == c
        return "" if right else f"{name} took {type(given).__name__} {getattr(given, 'shape', '')}"

    words = (name, f"{type(given).__name__} {tuple(shape)} {x.dtype} {x.device}")
    return Case(words, (), check, run=lambda: calls[name](copy.copy(given)))
