"""Damaged run directories, and commands that read them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from judge import Case
from mangle import damaged, flipped
from sound import Sound

from oche.runs.checkpoint import load_weights
from oche.runs.directory import read_metrics

_FILES = ("config.yaml", "status.json", "metrics.jsonl", "summary.json", "space.json", "genotype.txt", "weights.safetensors",
          "environment.json", "vocabulary.json", "manifest.safetensors", "manifest.json")  # fmt: skip


def finished(rng: Random, sound: Sound, at: Path) -> Case:
    """Any command on a finished run with one file damaged, missing, or replaced by a folder."""
    kind = rng.choice(("search", "training", "language"))
    run = _copy(sound.root / kind, at / "run")
    _harm(rng, run / rng.choice([name for name in _FILES if (run / name).exists()]))
    kept = tuple(file for file in run.rglob("*") if file.is_file() and file.name != ".lock")
    return Case((*rng.choice(_commands(run, sound, at)),), kept)


def _commands(run: Path, sound: Sound, at: Path) -> list[tuple[str, ...]]:
    where = str(run)
    return [
        ("resume", where, "--quiet"), ("evaluate", where, "--quiet"),
        ("evaluate", where, "--data", str(sound.text), "--quiet"),
        ("export", where, "--to", "safetensors", "--quiet"), ("show", where, "--out", str(at)),
        ("train", where, "--data", "nowhere.npz"),
        ("search", "--config", f"{where}/config.yaml", "--data", "nowhere.npz"),
        ("predict", where, str(at), "--quiet"), ("search", "--out", where, "--data", "nowhere.npz"),
    ]  # fmt: skip


def reported(rng: Random, sound: Sound, at: Path) -> Case:
    """The report of such a run; a kind of its own, because drawing takes a second."""
    run = _copy(sound.root / rng.choice(("search", "training", "language")), at / "run")
    _harm(rng, run / rng.choice([name for name in _FILES if (run / name).exists()]))
    return Case(("report", str(run)), tuple(file for file in run.rglob("*") if file.is_file() and file.name != ".lock"))


def halfway(rng: Random, sound: Sound, at: Path) -> Case:
    """Resume a killed run with damaged checkpoints or records: it must be refused, or end as an undisturbed run."""
    kind = rng.choice(("search", "training", "language"))
    run = _copy(sound.halfway(kind), at / "run")
    what, check = rng.choice(("checkpoint", "checkpoints", "tail", "file")), (lambda: "")
    if what in ("checkpoint", "checkpoints"):
        files = sorted((run / "checkpoints").iterdir())
        for file in files if what == "checkpoints" else files[-1:]:
            _harm(rng, file)
        check = _as_undamaged(run, sound.root / kind)
    elif what == "tail" and (run / "metrics.jsonl").exists():  # a kill leaves a line cut short
        with (run / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 5, "epoch": 1, "train_loss": 2.3'[: rng.randint(1, 40)])
        check = _as_undamaged(run, sound.root / kind)
    else:
        _harm(rng, run / rng.choice([name for name in _FILES if (run / name).exists()]))
    return Case(("resume", str(run), "--quiet"), (run / "config.yaml",), check)


def _as_undamaged(run: Path, whole: Path) -> Callable[[], str]:
    def check() -> str:
        same = _end(run) == _end(whole)
        return "" if same else f"{run} ended otherwise than {whole}"

    return check


def _end(run: Path) -> tuple[object, ...]:
    """The result of a run: weights, records without times, genotype."""
    weights = {name: tensor.numpy().tobytes() for name, tensor in load_weights(run / "weights.safetensors").items()}
    records = [{key: value for key, value in record.items() if key != "timings"} for record in read_metrics(run)]
    return weights, records, (run / "genotype.txt").read_text()


def exported(rng: Random, sound: Sound, at: Path) -> Case:
    """Predict with a damaged file of exported weights."""
    file, folder = at / "model.safetensors", at / "images"
    data = _bytes(sound.exported)
    file.write_bytes(flipped(rng, data) if rng.random() < 0.5 else damaged(rng, data))
    folder.mkdir()
    (folder / "x.png").write_bytes(_image())
    return Case(("predict", str(file), str(folder), "--out", str(at / "x.csv"), "--quiet"), (file,))


@cache
def _bytes(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _image() -> bytes:
    from sound import image

    return image("PNG")


def _copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("events.*", "report.html", "pictures"))
    return to


def _harm(rng: Random, file: Path) -> None:
    how = rng.random()
    if how < 0.9:
        file.write_bytes(damaged(rng, file.read_bytes()))
        return
    file.unlink()
    if how < 0.93:
        file.mkdir()
    elif how < 0.96:
        file.symlink_to(file.name)  # a link to itself
