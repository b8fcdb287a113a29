"""From a word or a path to a `Dataset`: read, split, cut to the wanted number and size, decoded once where memory allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import OcheError, nearest
from . import folder, tables
from .catalog import DATASETS, FORMS, SMALLEST, suited
from .core import Dataset, Resident, Split, moments
from .memory import available
from .parts import Parts
from .shares import evenly, held_out
from .stream import Streamed


def load(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    holdout: float = 0.2,
    limit: int | None = None,
    size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Dataset:
    """The data set that ``name`` stands for: one of `DATASETS`, or one of `FORMS`. A word wins over a folder of its name.

    ``data_dir``: a folder with the published archives of a named set, used instead of the network. ``holdout``: share of
    the images that becomes the test part where none comes with them (0: none), the same images whatever the seed.
    ``limit``: at most this many training images, drawn evenly over the classes by ``seed``. ``size``: side in pixels that
    images are scaled and cut to. ``progress``: show bars on the terminal. Images that half of the free memory holds are
    decoded here and kept; others stream. Raises `OcheError` for all that is wrong with the data, before any work.
    """
    if limit is not None and limit < 1:
        raise OcheError(f"limit={limit} leaves no training images; use 1 or more, or nothing for all")
    if size is not None and size < SMALLEST:
        raise OcheError(f"size={size} is too small for the networks; use {SMALLEST} pixels or more")
    memory = available() // 2
    found = _read(str(name), data_dir, None if size is None else (size, size), memory, progress)
    found = _split(found, holdout, limit, seed)
    train, test = _placed(found, None if size is None else (size, size), memory, progress)
    mean, std = moments(train)
    augment = suited(found.name, (train.shape[1], train.shape[2]))
    return Dataset(found.name, train, test, found.classes, mean, std, augment, found.note)


def _read(name: str, data_dir: str | Path | None, size: tuple[int, int] | None, memory: int, show: bool) -> Parts:
    if name in DATASETS:
        from .named import read

        return read(name, None if data_dir is None else Path(data_dir).expanduser(), memory, show)
    path = Path(name).expanduser()
    if path.is_dir():
        return folder.read(path, size, show)
    reader = {".parquet": tables.parquet, ".npz": tables.npz}.get(path.suffix.lower())
    if reader is not None and path.is_file():
        return reader(path, size, memory, show)
    possible = f"use {', '.join(DATASETS)}, {', '.join(FORMS)}"
    if path.exists():
        raise OcheError(f"{name} is a file of a kind that oche does not read; {possible}")
    raise OcheError(f"there are no data called {name!r}{nearest(name, list(DATASETS))}; {possible}")


def _split(found: Parts, holdout: float, limit: int | None, seed: int) -> Parts:
    if found.test is None and holdout:
        train, test = held_out(found.train.labels, holdout)
        found = replace(found, train=found.train.subset(train), test=found.train.subset(test))
    if limit is not None:
        found = replace(found, train=found.train.subset(evenly(found.train.labels, limit, seed)))
    return found


def _placed(found: Parts, size: tuple[int, int] | None, memory: int, show: bool) -> tuple[Split, Split | None]:
    """Both parts decoded and of the wanted size; streaming where they do not fit in ``memory`` bytes."""
    fits = found.train.nbytes + (found.test.nbytes if found.test else 0) <= memory

    def place(split: Split) -> Split:
        if isinstance(split, Streamed):
            return split.resident(show) if fits else split
        return split.resized(size) if isinstance(split, Resident) and size is not None else split

    return place(found.train), None if found.test is None else place(found.test)
