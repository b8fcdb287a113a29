"""Small folders of images: every image a picture of its own, known by a number."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from oche.runs.membership import ENVIRONMENT, MANIFEST, MARK

SIDE = 12


def picture(number: int, side: int = SIDE) -> np.ndarray:
    """The picture with this number, colour."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write(folder: Path, images: dict[str, range | list[int]], suffix: str = "png", prefix: str = "") -> Path:
    """Write class folders: for each class (which may be a path, such as train/ants) the numbers of its pictures."""
    for name, numbers in images.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.fromarray(picture(number)).save(folder / name / f"{prefix}{number:03}.{suffix}")
    return folder


def renamed(folder: Path) -> None:
    """Rename every image of the class folders, so that they are listed in another order."""
    for file in sorted(folder.rglob("*.png")):
        file.rename(file.with_name(f"x{999 - int(file.stem):03}.png"))


def of_an_earlier_version(run: Path) -> Path:
    """Take from ``run`` what earlier versions did not record of its data."""
    import json

    (run / MANIFEST).unlink()
    facts = json.loads((run / ENVIRONMENT).read_text())
    del facts[MARK]
    (run / ENVIRONMENT).write_text(json.dumps(facts))
    return run


def copy(run: Path, to: Path) -> Path:
    """Copy the run directory ``run``, without the runs below it."""
    return shutil.copytree(run, to, ignore=lambda _, names: [n for n in names if n in ("train", "pictures")])
