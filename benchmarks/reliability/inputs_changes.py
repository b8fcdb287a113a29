"""Data that change between two commands on a run, and data given to be measured.

These inputs know what must come of them: no image that a run saw is tested, every image of other data is measured, or the
command is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from judge import Case
from PIL import Image
from sound import SPACE, Sound

import oche
from oche.core.atomic_files import read_json
from oche.core.console import Log
from oche.data.manifest import FIRST, SECOND, TEST
from oche.runs.membership import Earlier
from oche.training.image_recipes import small

CLASSES = ("ants", "bees", "cats")
_SIDE, _EACH = 12, 8
_FLAGS = ("--quiet",)


def changes(rng: Random, sound: Sound, at: Path) -> Case:
    """Evaluate a training, or train the cell of a search, after its folder of images changed."""
    search = rng.random() < 0.3
    run, data = _copied(_run(sound.root, "search" if search else "training"), at)
    for change in rng.sample(_CHANGES, rng.randrange(1, 4)):
        change(rng, data)
    place = data.rename(at / "moved") if rng.random() < 0.3 else data
    where = () if place == data else ("--data", str(place))
    train = (
        "--recipe",
        "small",
        "--train.channels",
        "2",
        "--train.cells",
        "3",
        "--train.steps",
        "1",
        "--engine",
        "plain",
    )
    words = ("train", str(run), *where, *train) if search else ("evaluate", str(run), *where, "--device", "cpu")

    def check() -> str:
        was = Earlier.read(run, Log(quiet=True)).manifest
        assert was is not None
        seen, tested = ({*was.ids[was.members(*parts)].tolist()} for parts in ((FIRST, SECOND), (TEST,)))
        if search:
            trained = next(run.glob("train*/summary.json")).parent
            now = Earlier.read(trained, Log(quiet=True)).manifest
            assert now is not None
            both = seen & {*now.ids[now.members(TEST)].tolist()}
            return f"{len(both)} images that the search saw are tested" if both else ""
        images = read_json(next(run.glob("evaluation*/assessment.json"))).get("images", 0)
        return "" if images <= len(tested) else f"{images} images were measured, and {len(tested)} were tested at first"

    return Case((*words, *_FLAGS), (run / "manifest.safetensors", run / "config.yaml"), check)


def measured(rng: Random, sound: Sound, at: Path) -> Case:
    """Evaluate a training on other images: some classes, another order, a class that it lacks, parts, copies of its own."""
    run, _ = _copied(_run(sound.root, "training"), at)
    names = rng.sample([*CLASSES, "wasps"], rng.randrange(1, 5))
    parts = rng.choice((("",), ("train", "test"), ("train", "val"), ("test",), ("outer/inner",)))
    counts = {part: 0 for part in parts}
    for part in parts:
        for name in names:
            for k in range(rng.randrange(1, 4)):
                _write(at / "x" / part / name, f"{k}.png", 500 + 100 * len(part) + 10 * names.index(name) + k)
                counts[part] += 1
    expected = counts[next((part for part in ("test", "val") if part in parts), parts[0])]

    def check() -> str:
        if "wasps" in names:
            return "a class that the network lacks was measured"
        images = read_json(at / "out" / "assessment.json").get("images")
        return "" if images == expected else f"{images} of {expected} images were measured"

    words = ("evaluate", str(run), "--data", str(at / "x"), "--out", str(at / "out"), "--device", "cpu")
    return Case((*words, *_FLAGS), check=check)


# --- the runs -----------------------------------------------------------------------------------------------------------


@cache
def _run(root: Path, kind: str) -> Path:
    """Return a run of ``kind`` on a folder of images beside it, made at first use."""
    folder = root / f"folder-{kind}"
    if not (folder / "run" / "summary.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for c, name in enumerate(CLASSES):
            for k in range(_EACH):
                _write(folder / "data" / name, f"{k}.png", 100 * c + k)
        if kind == "search":
            oche.search(
                folder / "data", space=oche.spaces.darts(**SPACE), method=oche.methods.darts(batch=4, steps=1),
                out=folder / "run", threads=1, engine="plain",
            )  # fmt: skip
        else:
            recipe = small(channels=2, cells=3, steps=1, batch=8)
            oche.train("DARTS_V2", folder / "data", recipe=recipe, out=folder / "run", threads=1, engine="plain")
    return folder


def _copied(folder: Path, at: Path) -> tuple[Path, Path]:
    """Return copies of the run and of its data, in which the run names that copy."""
    for name in ("run", "data"):
        shutil.copytree(folder / name, at / name, ignore=shutil.ignore_patterns("events.*", "pictures", "train"))
    for file in (at / "run").glob("*.yaml"):
        file.write_text(file.read_text().replace(str(folder / "data"), str(at / "data")))
    return at / "run", at / "data"


def _write(folder: Path, name: str, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)


# --- changes ------------------------------------------------------------------------------------------------------------


def _files(data: Path) -> list[Path]:
    return sorted(data.rglob("*.png"))


def _rename(rng: Random, data: Path) -> None:
    for file in _files(data):
        file.rename(file.with_name(f"{rng.random():.12f}.png"))


def _add(rng: Random, data: Path) -> None:
    for k in range(rng.randrange(1, 6)):
        _write(data / rng.choice((*CLASSES, "Aphids")), f"new {k}.png", 1000 + rng.randrange(10_000))


def _copy(rng: Random, data: Path) -> None:
    for file in _files(data)[: rng.randrange(4)]:
        shutil.copy(file, file.with_name(f"a copy of {file.name}"))


def _remove(rng: Random, data: Path) -> None:
    files = _files(data)
    for file in rng.sample(files, min(len(files), rng.choice((1, 4, 18)))):
        file.unlink()


def _regroup(rng: Random, data: Path) -> None:
    folders = sorted({file.parent for file in _files(data)})
    for file in _files(data)[:: rng.choice((5, 20))]:
        file.rename(rng.choice(folders) / f"was {file.parent.name} {file.name}")


def _rename_class(rng: Random, data: Path) -> None:
    if (data / "bees").is_dir():
        (data / "bees").rename(data / rng.choice(("Bees", "wasps", "zz")))


def _publish(rng: Random, data: Path) -> None:
    """Make parts of the folder: some images of each class become a test part."""
    for folder in [folder for folder in data.iterdir() if folder.is_dir()]:
        for file in sorted(folder.glob("*.png")):
            to = data / ("test" if rng.random() < 0.3 else "train") / folder.name
            to.mkdir(parents=True, exist_ok=True)
            file.rename(to / file.name)
        shutil.rmtree(folder)


_CHANGES: tuple[Callable[[Random, Path], None], ...] = (
    _rename,
    _add,
    _copy,
    _remove,
    _regroup,
    _rename_class,
    _publish,
)
