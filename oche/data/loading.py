"""Load a `Dataset` by name or path: read it, split it, cut it to the wanted number and size, decode it if memory allows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from oche.core.console import progress_bar
from oche.core.errors import OcheError, did_you_mean
from oche.core.memory import free_memory_or_estimate
from oche.data.dataset import Dataset, Resident, Split, channel_moments
from oche.data.readers import huggingface as hub
from oche.data.readers import image_folder as folder
from oche.data.readers import named
from oche.data.readers import parquet_npz as tables
from oche.data.readers.decode import Damaged
from oche.data.readers.records import RawDataset
from oche.data.registry import DATASETS, FORMS, SMALLEST, default_augment
from oche.data.splits import balanced_subset, held_out
from oche.data.streaming import Streamed

_BATCH = 1024  # images read together, when all of a streamed part are read
Size = tuple[int, int] | None  # (H, W); None: the size of the images


def load(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    holdout: float = 0.2,
    limit: int | None = None,
    size: int | None = None,
    damaged: Literal["refuse", "skip"] = "refuse",
    seed: int = 0,
    progress: bool = False,
) -> Dataset:
    """Load the data set ``name``: one of `DATASETS`, or one of `FORMS`. A known name wins over a folder of that name.

    ``data_dir``: a folder with the published archives of a named set, used instead of the network. ``holdout``: the share
    of images for the test part if the set has none (0: no test part); the same images whatever the seed. ``limit``: at
    most this many training images, drawn by ``seed`` equally from all classes. ``size``: the side in pixels to which
    images are scaled and cut. ``progress``: show bars on the terminal.

    Images that fit in half of the free memory are decoded here, once, and kept. Others stream; here they are read through
    for their mean and deviation. So any bad image raises `OcheError` now, with its name. With ``damaged="skip"`` images
    that cannot be decoded are left out, and the note says so.
    """
    if limit is not None and limit < 1:
        raise OcheError(f"limit={limit} leaves no training images; use 1 or more, or nothing for all")
    if damaged not in ("refuse", "skip"):
        raise OcheError(f"damaged={damaged!r} is unknown; use 'refuse' or 'skip'")
    if size is not None and size < SMALLEST:
        raise OcheError(f"size={size} is too small for the networks; use {SMALLEST} pixels or more")
    memory, height_width = free_memory_or_estimate() // 2, None if size is None else (size, size)
    try:
        return _load(str(name), data_dir, height_width, damaged == "skip", holdout, limit, seed, memory, progress)
    except Damaged as error:
        raise Damaged(f"{error}, or write --damaged skip to leave out what cannot be read") from error


def _load(
    name: str, data_dir: str | Path | None, size: Size, skip: bool, holdout: float, limit: int | None, seed: int,
    memory: int, show: bool,
) -> Dataset:  # fmt: skip
    found = _split(_read(name, data_dir, size, memory, show, skip), holdout, limit, seed)
    train, test = _decode_if_it_fits(found, size, memory, show)
    image = train.shape[1], train.shape[2]
    if min(image) < SMALLEST:
        raise OcheError(
            f"{name} has images of {image[1]}x{image[0]} pixels; networks need {SMALLEST} a side: give a size"
        )
    mean, std = _moments(train, test, show)
    return Dataset(found.name, train, test, found.classes, mean, std, default_augment(found.name, image), found.note)


def _read(name: str, data_dir: str | Path | None, size: Size, memory: int, show: bool, skip: bool) -> RawDataset:
    """Read the data set with the reader that fits ``name``. Raises `OcheError` if none does."""
    if name in DATASETS:
        return named.read(name, None if data_dir is None else Path(data_dir).expanduser(), memory, show)
    if name.startswith("hf:"):
        return hub.read(name, size, show, skip)
    path = Path(name).expanduser()
    if path.is_dir():
        return folder.read(path, size, show, skip)
    reader = {".parquet": partial(tables.read_parquet, skip=skip), ".npz": tables.read_npz}.get(path.suffix.lower())
    if reader is not None and path.is_file():
        return reader(path, size, memory, show)
    possible = f"use {', '.join(DATASETS)}, {', '.join(FORMS)}"
    if path.exists():
        raise OcheError(
            f"oche cannot read {name}, a file of an unknown kind; unpack it if it is an archive, else {possible}"
        )
    what = "no such file or folder as" if "/" in name or path.suffix else "no data called"
    raise OcheError(f"there is {what} {name!r}; {possible}{did_you_mean(name, list(DATASETS))}")


def _split(found: RawDataset, holdout: float, limit: int | None, seed: int) -> RawDataset:
    """Cut off a test part if there is none, and limit the training part."""
    if found.test is None and holdout:
        train, test = held_out(found.train.labels, holdout)
        found = replace(found, train=found.train.subset(train), test=found.train.subset(test))
    if limit is not None:
        found = replace(found, train=found.train.subset(balanced_subset(found.train.labels, limit, seed)))
    return found


def _decode_if_it_fits(found: RawDataset, size: Size, memory: int, show: bool) -> tuple[Split, Split | None]:
    """Return (training part, test part) in the wanted size: decoded if both fit in ``memory`` bytes, otherwise streamed.

    Raises `OcheError` for decoded images that would not fit after scaling.
    """
    c, h, w = found.train.shape
    count = len(found.train) + (len(found.test) if found.test else 0)
    need = count * c * ((size[0] * size[1]) if size else h * w)

    def place(split: Split) -> Split:
        if isinstance(split, Streamed):
            return split.resident(show) if need <= memory else split
        if not isinstance(split, Resident) or size is None or size == split.shape[1:]:
            return split
        if need > memory:
            raise OcheError(
                f"{count} images of {size[1]}x{size[0]} pixels take {need / 1e9:.1f} GB and {memory / 1e9:.1f} GB may be "
                "used; give a smaller size or a limit, or a folder of images, which streams"
            )
        return split.resized(size)

    return place(found.train), None if found.test is None else place(found.test)


def _moments(train: Split, test: Split | None, show: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the training part.

    This decodes all streamed images, also of the test part, and so checks them.
    """
    streamed = [split for split in (train, test) if isinstance(split, Streamed)]
    with progress_bar("reading images", sum(map(len, streamed)), show and bool(streamed)) as advance:
        result = channel_moments(train, _BATCH, advance)
        if isinstance(test, Streamed):
            for images, _ in test.walk(torch.arange(len(test)), _BATCH):
                advance(len(images))
    return result
