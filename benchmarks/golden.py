"""What oche computes, bit by bit, at tiny sizes: recorded before a change that must not change it, compared afterwards.

    python golden.py --out before.json         # on the tree as it was (PYTHONPATH chooses the tree), about 8 minutes
    python golden.py --out after.json          # on the tree as it is now
    python golden.py --compare before.json after.json

Every method searches in every space, every recipe trains, every published cell is built; forms of computing, kinds of data,
penalties, interrupted runs, exports and the command line come on top. An entry holds losses, cells, messages as they are, and
the start of a SHA-256 of logits, weights, metrics, pictures. What says how long something took, when or where is left out.
``--only 'search/*/gdas'`` makes a part. The numbers are those of one machine and one version of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import fields, is_dataclass, replace
from fnmatch import fnmatch
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # before torch reads them
os.environ.pop("OCHE_NB201", None)

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

import oche

Entry = dict[str, Any]

# --- the only names inside oche ---------------------------------------------------------------------------------------

REPORT = (("oche.report.run_page", "write_report"), ("oche.report", "write_report"))  # of now, of before


def adapted(space: Any, method: Any) -> Any:
    """``method`` as the published searches in ``space`` have it."""
    return (getattr(space, "adapt_search", None) or space.suited)(method)


def leave_out_reports() -> None:
    """Has runs leave an empty report.html, unless `reports` is on: drawing takes most of the time of a tiny run.

    Where the function is not found all is as it was, but slower.
    """
    writers = []
    for module, function in REPORT:
        with suppress(ImportError, AttributeError):
            writers.append(getattr(import_module(module), function))
    if not writers:
        print("no write_report here: every run draws its report, which takes long; see REPORT", file=sys.stderr)
        return
    write = writers[0]

    def perhaps(path: str | Path, *args: Any, **options: Any) -> Any:
        if reports.on:
            return write(path, *args, **options)
        (Path(path) / "report.html").touch()
        return Path(path) / "report.html"

    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] == "oche" and vars(module).get("write_report") in writers:
            module.write_report = perhaps


class reports:
    """Whether runs draw their reports."""

    on = False


# --- sizes and data ---------------------------------------------------------------------------------------------------

STEPS = dict(steps=6, batch=10)  # on 60 images, 30 of which train: two epochs of three steps
STEPS_TEXT = dict(steps=12, batch=4)  # of 300 words, 150 of which train: epochs of nine steps
SIZE = dict(channels=8, cells=3)
SPACES: dict[str, Callable[..., Any]] = {
    "darts": lambda **size: oche.spaces.darts(**{**SIZE, "nodes": 2, **size}),
    "seed": lambda **size: oche.spaces.seed(**{**SIZE, "nodes": 2, "head": (6,), **size}),
    "nb201": lambda **size: oche.spaces.nb201(**{**SIZE, **size, "cells": 1}),
}
LARGER = {
    "p-darts": dict(cells=5),  # of these, 5/8 in the first stage; both kinds must be among them
    "drnas-progressive": dict(channels=16),  # 36/16 of these in both stages, and of those a sixth, then a quarter
}
TEXT = dict(width=6, nodes=3, bptt=4)
IMAGE_CELLS = ("NASNet", "AmoebaNet", "DARTS_V1", "DARTS_V2", "PDARTS", "PCDARTS_CIFAR", "PCDARTS_IMAGENET", "GDAS_V1")
IMAGE_CELLS += ("SGAS_CRI1", "SGAS_CRI2", "SDARTS_RS", "SDARTS_ADV")
TEXT_CELLS = ("ENAS_RNN", "DARTS_RNN_V1", "DARTS_RNN_V2")
NB201_CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


def make_data(root: Path) -> None:
    """A colour data set as one file and as a folder, and a text, the same each time."""
    g = np.random.RandomState(0)  # its numbers are promised never to change
    y = np.arange(90) % 3
    x = (g.randint(0, 150, (90, 12, 12, 3)) + 35 * y[:, None, None, None]).astype(np.uint8)
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "own.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    for i, label in enumerate(y):
        folder = root / "folder" / ("train" if i < 60 else "test") / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i]).save(folder / f"{i}.png")
    words = random.Random(0).choices(["one", "two", "red", "blue", "fish"], k=1600)
    (root / "own.txt").write_text("".join(" ".join(words[i : i + 8]) + "\n" for i in range(0, 1600, 8)))


def fewer(part: Any) -> Any:
    """``part`` of a method with the square roots of its counts above 8, such as of the cells that a selection tries."""
    if not is_dataclass(part) or isinstance(part, type):
        return part
    now = {f.name: getattr(part, f.name) for f in fields(part) if f.init}
    small = {k: int(v**0.5) if type(v) is int and v > 8 else fewer(v) for k, v in now.items()}
    return replace(part, **{k: v for k, v in small.items() if v is not now[k]})


def method(name: str, space: Any, size: dict[str, int]) -> Any:
    """The method of that name as it suits ``space``, with few steps."""
    made = adapted(space, oche.methods.METHODS[name].make(**size))  # which in a recurrent space changes the batch, too
    parts = {f.name: fewer(part) for f in fields(made) if is_dataclass(part := getattr(made, f.name))}
    return replace(made, **parts, **size)


# --- what is recorded -------------------------------------------------------------------------------------------------


def sha(*parts: Any) -> str:
    """The start of the SHA-256 of bytes, texts, tensors, and JSON of anything else."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            part = f"{part.dtype} {tuple(part.shape)}".encode() + part.detach().contiguous().cpu().numpy().tobytes()
        elif not isinstance(part, bytes):
            part = (part if isinstance(part, str) else json.dumps(part, sort_keys=True)).encode()
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:16]


def tensors(found: dict[str, torch.Tensor]) -> Entry:
    """``named`` holds names too, ``values`` does not: where only the first differs, something was renamed."""
    pairs = sorted(found.items())
    return {
        "tensors": len(pairs),
        "named": sha(*(part for pair in pairs for part in pair)),
        "values": sha(sorted(sha(t) for t in found.values())),
    }


def of_run(path: Path) -> Entry:
    """What a run directory holds, without times, versions, and the names that its config.yaml uses."""
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    records = [{k: v for k, v in record.items() if k != "timings"} for record in records]
    losses = sorted({k for record in records for k in record if k.endswith("_loss")})
    weights = load_file(path / "weights.safetensors")
    logits = {k: weights.pop(k) for k in [*weights] if k.startswith("logits.")}
    space, summary = (json.loads((path / name).read_text()) for name in ("space.json", "summary.json"))
    entry: Entry = {
        "losses": {k: [record.get(k) for record in records] for k in losses},
        "metrics": sha(records),
        "weights": tensors(weights),
        "computes": space.pop("computes"),
        "space.json": sha(space),
        "summary": {k: v for k, v in summary.items() if k not in ("seconds", "other_seconds", "step_ms", "data")},
        "files": sorted({re.sub(r"events\.out.*", "events", p.name) for p in path.iterdir() if p.is_file()}),
    }
    if logits:
        entry["logits"] = {k: sha(v) for k, v in sorted(logits.items())}
    if (path / "genotype.txt").exists():  # "lstm" has none
        entry["genotype"] = (path / "genotype.txt").read_text().strip()
    for name in ("assessment.json", "vocabulary.json"):
        if (path / name).exists():
            entry[name] = sha(json.loads((path / name).read_text()))
    if drawn := pictures(path / "pictures"):
        entry |= {"pictures": drawn, "report.html": page((path / "report.html").read_text(), path)}
    return entry


def page(text: str, path: Path) -> str:
    """The hash of a report's page without pictures, which have theirs, configuration, machine, dates and durations."""
    text = re.sub(r"<(svg|pre)\b.*?</\1>", "", text, flags=re.DOTALL).replace(str(path.parent), "")
    lines = [line for line in text.splitlines() if not re.search(r" UTC| m?s</td>| time<", line)]
    return sha(lines)


def pictures(folder: Path) -> dict[str, str]:
    return {p.name: sha(p.read_bytes()) for p in sorted(folder.glob("*.svg"))}


def cli(*words: object) -> tuple[int, str]:
    """Exit code of ``python -m oche WORDS`` in this process, and what it printed."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["oche", *map(str, words)]
    try:
        with redirect_stdout(said), redirect_stderr(said):
            runpy.run_module("oche", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return code, said.getvalue().strip()


@contextmanager
def interrupted_after(
    steps: int, act: Callable[[], object] = partial(signal.raise_signal, signal.SIGINT)
) -> Iterator[None]:
    """Within, this process gets a Ctrl-C, or does ``act``, once that many steps of SGD are done."""
    done = 0

    def count(optimizer: Any, args: Any, kwargs: Any) -> None:
        nonlocal done
        done += isinstance(optimizer, torch.optim.SGD)
        if done == steps and isinstance(optimizer, torch.optim.SGD):
            act()

    hook = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        hook.remove()


# --- the cases: each gets an empty folder, beside that of the data, and returns an entry -------------------------------

DIGITS = "--limit 60 --space.channels 8 --search.batch 10 --search.steps 6"
SEARCH = f"search {DIGITS} --space.cells 3 --space.nodes 2"
SEARCH_NB201 = f"search --space nb201 {DIGITS} --space.cells 1"
SEARCH_TEXT = (
    "search --space recurrent --data DATA/own.txt --limit 300 --space.width 6 --space.nodes 3 --space.bptt 4 --search.batch 4 "
    "--search.steps 12"
)
TRAIN = "--limit 60 --train.channels 8 --train.batch 16 --train.epochs 2"
TRAIN_DIGITS = f"train DARTS_V2 --data digits --train.cells 3 {TRAIN}"
TRAIN_TEXT = "--data DATA/own.txt --limit 300 --train.width 6 --train.batch 4 --train.bptt 4 --train.epochs 3"
TRAIN_RNN = f"train DARTS_RNN_V2 --recipe recurrent-small {TRAIN_TEXT}"


def search_images(work: Path, name: str, kind: str, data: str | Path = "digits", **options: Any) -> Entry:
    space = SPACES[kind](**LARGER.get(name, {}))
    given = dict(space=space, method=method(name, space, STEPS), limit=60, out=work / "run", device="cpu")
    return of_run(oche.search(data if data == "digits" else work.parent / "data" / data, **given, **options).path)


def search_text(work: Path, name: str, **options: Any) -> Entry:
    space = oche.spaces.recurrent(**TEXT)
    given = dict(space=space, method=method(name, space, STEPS_TEXT), limit=300, out=work / "run", device="cpu")
    return of_run(oche.search(work.parent / "data" / "own.txt", **given, **options).path)


def command(work: Path, line: str) -> tuple[int, str]:
    """`cli` of a line in which DATA and RUN stand for folders."""
    folders = {"DATA": work.parent / "data", "RUN": work / "run"}
    code, text = cli(*re.sub("DATA|RUN", lambda m: str(folders[m[0]]), line).split())
    return code, text.replace(str(work.parent), "TMP")


def run(work: Path, line: str) -> Entry:
    """What a command leaves, or what it says where it refuses."""
    code, text = command(work, f"{line} --out RUN --device cpu --quiet")
    return of_run(work / "run") if code == 0 else {"code": code, "said": text}


def resume(work: Path, line: str, steps: int) -> Entry:
    """What a command leaves that is interrupted after ``steps`` steps and gone on with."""
    with interrupted_after(steps):
        code, _ = command(work, f"{line} --out RUN --device cpu --quiet")
    state = json.loads((work / "run" / "status.json").read_text())["state"]
    return {"interrupted": [code, state, *command(work, "resume RUN --quiet")], **of_run(work / "run")}


def train(work: Path, line: str) -> Entry:
    """What a training leaves, and what its network gives when it is loaded and measured anew."""
    entry = run(work, f"train {line}")
    if "code" in entry:
        return entry
    entry["evaluated"] = oche.evaluate(work / "run", device="cpu")
    if "assessment.json" in entry:  # of images
        net = oche.load(work / "run")
        x = torch.randn(4, len(net.mean), *net.image, generator=torch.Generator().manual_seed(0))
        entry["loaded"] = sha(net(x))
    return entry


def from_python(work: Path) -> Entry:
    """The story of the README: a search, the training of what it found, another one on other data, a random cell."""
    found_by = oche.methods.darts(order=2, **STEPS)
    found = oche.search(space=SPACES["darts"](), method=found_by, out=work / "run", limit=60, seed=3)
    recipe = oche.training.small(channels=4, cells=3, epochs=2, batch=16)
    trained = oche.train(found, recipe=recipe)
    other = oche.train(found, work.parent / "data" / "own.npz", recipe=recipe)
    said = command(work, "train RUN --recipe small --train.channels 4 --train.cells 3 --train.steps 3 --random 1")
    runs = {"search": found.path, "train": trained.path, "other": other.path, "random": work / "run" / "random-1"}
    folders = sorted(p.name for p in found.path.iterdir() if p.is_dir())
    return {name: of_run(path) for name, path in runs.items()} | {"said": said, "folders": folders}


def report(work: Path, line: str) -> Entry:
    """A run with its pictures."""
    reports.on = True
    try:
        return run(work, line)
    finally:
        reports.on = False


def published(work: Path, name: str, **size: Any) -> Entry:
    """A network of a cell, freshly made: its number of weights and its outputs."""
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = oche.build(name, **{**dict(classes=10, channels=8, cells=5), **size})
    with torch.no_grad():
        outputs = [net(x), net.eval()(x)]
    flat = [t for out in outputs for t in (out if isinstance(out, tuple | list) else (out,))]
    parameters = sum(p.numel() for p in net.parameters())
    return {"parameters": parameters, "outputs": [sha(t) for t in flat], "state": tensors(net.state_dict())}


def text(work: Path, name: str) -> Entry:
    return {"genotype": str(oche.genotypes.get(name))}


def export(work: Path) -> Entry:
    """What the files of a trained network give; the files themselves name modules and versions."""
    import onnxruntime

    train(work, TRAIN_DIGITS.removeprefix("train ") + " --recipe small")
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = np.random.RandomState(0).randint(0, 256, (4, 8, 8, 1)).astype(np.uint8)
    entry: Entry = {}
    for name, words in {"onnx": "", "unfolded": "--no-fold", "int8": "--int8", "uint8": "--input uint8-nhwc"}.items():
        said = command(work, f"export RUN --out {work}/{name}.onnx --no-card --quiet {words}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(work / f"{name}.onnx", options)
        given = {session.get_inputs()[0].name: pixels if name == "uint8" else x.numpy()}
        entry[name] = [*said, *(sha(out.tobytes()) for out in session.run(None, given))]
    file = work / "net.safetensors"
    said = command(work, f"export RUN --to safetensors --out {file} --no-card --quiet")
    entry["safetensors"] = [*said, sha(oche.load(file)(x)), tensors(load_file(file))]
    return entry


def predict(work: Path) -> Entry:
    """What a trained network says of a folder of images."""
    run(work, f"train GDAS_V1 --recipe small --train.cells 3 {TRAIN} --data DATA/own.npz")
    told = command(work, f"predict RUN DATA/folder/test --out {work}/found.csv --quiet")
    return {"said": told, "csv": sha((work / "found.csv").read_text().replace(str(work.parent), "TMP"))}


def said(work: Path, line: str) -> Entry:
    """What a command prints, and the pictures that it leaves."""
    before = os.getcwd()
    os.chdir(work)
    try:
        code, words = command(work, line)
    finally:
        os.chdir(before)
    return {"code": code, "said": [row.rstrip() for row in words.splitlines()], "pictures": pictures(work)}


FORMS = (
    "darts",
    "darts-2nd",
    "exact",
    "gdas",
    "snas",
    "drnas",
    "pc-darts",
    "p-darts",
    "sgas-2",
    "sdarts-adv",
    "one-shot",
)
ON_DATA = ("darts", "gdas", "pc-darts", "drnas", "sgas-2", "p-darts")
VARIANTS = {
    "parameters": "--search.penalty parameters --search.target 1M --search.strength 0.5",
    "flops": "--method gdas --search.penalty flops",
    "neumann": "--search.hypergrad Neumann --search.hypergrad.terms 3 --search.epochs 2 --search.steps None",
    "curvature": "--search.curvature 1 --search.on-collapse rollback --search.split 0.7",
    "node-eg": "--method i-darts --search.a ExponentiatedGradient --search.select Perturbation",
    "sigmoid": "--search.relax Sigmoid --search.penalty ZeroOne --search.edge PartialEdge --search.edge.k 2",
    "augmented": "--search.pad 1 --search.flip true --seed 5",
    "larger": "--data DATA/own.npz --space.cells 4 --space.reductions 1 3 --space.affine --space.widen after --search.w.lr 0.1",
}
REFUSED = {
    "option": "--search.epoch 3",
    "data": "--data DATA/nowhere",
    "channels": "--method pc-darts --space.channels 6",
    "steps": "--method p-darts --space.cells 5 --search.steps 2",
    "target": "--search.penalty parameters --search.target 1",
    "text": "--data DATA/own.txt",
}
RECIPES = {
    "darts": "",
    "modern": "",
    "seed": "--train.head 6",
    "small": "",
    "nb201": "--train.cells 1",
    "imagenet-mobile": "--data DATA/folder --size 32",
}
EXTRAS = {
    "mixed": "--train.mixup 0.2 --train.cutmix 1 --train.label-smoothing 0.1 --train.ema 0.9",
    "trivial": "--train.augment TrivialAugment --data DATA/own.npz --train.cutout 4 --train.drop-path 0.3",
    "rand": "--train.augment RandAugment --data DATA/folder --train.crop 0.3 1 --train.auxiliary 0.4",
    "parts": "--train.accumulate 2 --train.split 0.6 --train.evaluate 2 --train.w.schedule OneCycle",
    "bf16": "--train.precision bf16",
    "plain": "--engine plain",
}
LISTED = ("methods", "spaces", "data", "genotypes", "operations", "recipes")


def cases() -> dict[str, Callable[[Path], Entry]]:
    made: dict[str, Callable[[Path], Entry]] = {"python": from_python, "export": export, "predict": predict}
    for name in oche.methods.METHODS:
        for kind in SPACES:
            made[f"search/{kind}/{name}"] = partial(search_images, name=name, kind=kind)
        made[f"search/recurrent/{name}"] = partial(search_text, name=name)
    for name in ON_DATA:
        for kind, data in (("darts", "own.npz"), ("nb201", "own.npz"), ("seed", "folder"), ("darts", "folder")):
            made[f"data/{data}/{kind}/{name}"] = partial(search_images, name=name, kind=kind, data=data)
        made[f"data/characters/recurrent/{name}"] = partial(search_text, name=name, tokens="characters", seed=2)
    for name in FORMS:
        for kind in ("darts", "nb201"):
            made[f"plain/{kind}/{name}"] = partial(search_images, name=name, kind=kind, engine="plain")
            made[f"{UNCOMPILED}{kind}/{name}"] = partial(search_images, name=name, kind=kind)
    for name in ("darts", "darts-2nd", "gdas"):
        made[f"plain/recurrent/{name}"] = partial(search_text, name=name, engine="plain")
    made |= {f"variant/{name}": partial(run, line=f"{SEARCH} {words}") for name, words in VARIANTS.items()}
    made |= {f"refused/{name}": partial(run, line=f"{SEARCH} {words}") for name, words in REFUSED.items()}
    for name in ("darts", "p-darts", "pc-darts", "gaea", "sgas-1", "sdarts-rs", "beta-darts", "robust-darts"):
        cells = LARGER.get(name, SIZE)["cells"]
        made[f"resumed/{name}"] = partial(resume, line=f"{SEARCH} --method {name} --space.cells {cells}", steps=4)
    made["resumed/nb201"] = partial(resume, line=f"{SEARCH_NB201} --method drnas", steps=2)
    made["resumed/recurrent"] = partial(resume, line=SEARCH_TEXT, steps=4)
    made["resumed/train"] = partial(resume, line=f"{TRAIN_DIGITS} --recipe modern", steps=6)
    made["resumed/train-text"] = partial(resume, line=TRAIN_RNN, steps=30)
    for name, words in RECIPES.items():
        cell = NB201_CELL if name == "nb201" else "DARTS_V2"
        made[f"train/{name}"] = partial(train, line=f"{cell} --recipe {name} --train.cells 3 {TRAIN} {words}")
    for name, words in EXTRAS.items():
        made[f"train/small/{name}"] = partial(train, line=f"SGAS_CRI2 --recipe small --train.cells 3 {TRAIN} {words}")
    for cell in (*TEXT_CELLS, "lstm"):
        for name in ("recurrent", "recurrent-small"):
            made[f"train/{name}/{cell}"] = partial(train, line=f"{cell} --recipe {name} {TRAIN_TEXT}")
    drawn = {
        "darts": SEARCH,
        "p-darts": f"{SEARCH} --method p-darts --space.cells 5",
        "priced": f"{SEARCH} --search.penalty flops",
    }
    drawn |= {"nb201": SEARCH_NB201, "recurrent": SEARCH_TEXT, "train": TRAIN_DIGITS, "train-text": TRAIN_RNN}
    made |= {f"report/{name}": partial(report, line=line) for name, line in drawn.items()}
    made |= {f"published/{name}/text": partial(text, name=name) for name in (*IMAGE_CELLS, *TEXT_CELLS)}
    made |= {f"published/{name}": partial(published, name=name, auxiliary=True) for name in IMAGE_CELLS}
    made["published/DARTS_V2/features"] = partial(published, name="DARTS_V2", features=True)
    made["published/DARTS_V2/imagenet"] = partial(published, name="DARTS_V2", stem="imagenet", widen="after")
    made["published/nb201"] = partial(published, name=NB201_CELL, cells=1)
    for line in ("--help", "list", "show DARTS_V2", "show DARTS_RNN_V2", *(f"list {what}" for what in LISTED)):
        made[f"said/{line}"] = partial(said, line=line)
    return made


# --- making, comparing ------------------------------------------------------------------------------------------------

UNCOMPILED = "shared/"  # cases of a process that finds no compiler, so that cells compute in the shared form


def make(only: str) -> dict[str, Entry]:
    torch.set_num_threads(1)
    leave_out_reports()
    here = "CXX" in os.environ and os.environ["CXX"] == UNCOMPILED
    found: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        root = Path(folder).resolve()
        make_data(root / "data")
        for name, case in sorted(cases().items()):
            if not fnmatch(name, only) or name.startswith(UNCOMPILED) != here:
                continue
            began, work = time.monotonic(), root / "work"
            work.mkdir()
            try:
                found[name] = case(work)
            except Exception as error:  # what is refused is behaviour, too
                found[name] = {"refused": f"{type(error).__name__}: {error}".replace(str(root), "TMP")}
                print(f"          {found[name]['refused']}", file=sys.stderr)
            shutil.rmtree(work)
            print(f"{time.monotonic() - began:6.2f} s  {name}", file=sys.stderr, flush=True)
        if not here and any(fnmatch(name, only) for name in cases() if name.startswith(UNCOMPILED)):
            words = [sys.executable, __file__, "--out", str(root / "rest.json"), "--only", only]
            subprocess.run(words, env={**os.environ, "CXX": UNCOMPILED}, check=True)
            found |= json.loads((root / "rest.json").read_text())
    return found


def differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{at} › {key}" if at else key)
    elif one != other:
        yield f"{at}\n    {json.dumps(one, ensure_ascii=False)[:500]}\n    {json.dumps(other, ensure_ascii=False)[:500]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--only", default="*", help="pattern of the entries to make, or to compare")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"))
    given = parser.parse_args()
    if given.compare:
        read = [json.loads(path.read_text()) for path in given.compare]
        one, other = ({k: v for k, v in entries.items() if fnmatch(k, given.only)} for entries in read)
        found = [*differences(one, other)]
        print(*found, sep="\n")
        print(f"{len(one)} and {len(other)} entries, {len(found)} differences")
        return int(bool(found))
    if not given.out:
        parser.error("give --out FILE or --compare A B")
    print(f"oche of {Path(oche.__file__).parent}", file=sys.stderr)
    began, found = time.monotonic(), make(given.only)
    given.out.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{len(found)} entries in {time.monotonic() - began:.0f} s: {given.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
