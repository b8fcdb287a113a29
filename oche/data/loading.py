"""Load a `Dataset` by name or path: read it, split it, cut it to the wanted number and size, decode it if memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from oche.core.annotations import can_name_file
from oche.core.arguments import checked
from oche.core.console import progress_bar
from oche.core.errors import OcheError, did_you_mean, plural
from oche.core.memory import free_memory_or_estimate
from oche.data.dataset import Dataset, Resident, Split, channel_moments
from oche.data.drawing import Choose, Parts, draw
from oche.data.eight_bits import to_eight_bits
from oche.data.identity import identify
from oche.data.pixel_range import AS_BEFORE, PixelRange
from oche.data.readers import huggingface as hub
from oche.data.readers import image_folder as folder
from oche.data.readers import named
from oche.data.readers import parquet_npz as tables
from oche.data.readers.decode import Damaged
from oche.data.readers.measuring import measuring
from oche.data.readers.pixels import Axes, Layout
from oche.data.readers.python_objects import as_file
from oche.data.readers.records import RawDataset
from oche.data.registry import DATASETS, FORMS, SMALLEST, default_augment
from oche.data.streaming import Streamed

if TYPE_CHECKING:
    from oche.data.readers.python_forms import Data

_BATCH = 1024  # images read together, when all of a streamed part are read
Size = tuple[int, int] | None  # (H, W); None: the size of the images


@checked
def load(
    name: Data,
    *,
    data_dir: str | Path | None = None,
    holdout: float = 0.2,
    limit: int | None = None,
    size: int | None = None,
    damaged: Literal["refuse", "skip"] = "refuse",
    layout: Layout | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Dataset:
    """Load the data set ``name``: one of `DATASETS`, one of `FORMS`, or a Python object (`oche.data.readers.python_forms`).

    A known name wins over a folder of that name.

    ``data_dir``: a folder with the published archives of a named set, used instead of the network. ``holdout``: the share
    of images for the test part if the set has none (0: no test part); the same images whatever the seed. ``limit``: at
    most this many training images, drawn by ``seed`` equally from all classes. ``size``: the side in pixels to which
    images are scaled and cut. ``layout``: the axes of arrays, see `oche.data.readers.pixels.channels_first`. ``progress``:
    show bars on the terminal.

    Images of more than 8 bits are mapped to 0..255 by the range of the training part, see `oche.data.pixel_range`.

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
    if isinstance(name, str) and not can_name_file(name):
        raise OcheError(f"there are no data at {name[:60]!r}…; give a path, or a name of: oche list data")
    with as_file(name, size=size, layout=layout, progress=progress) as place:
        return load_parts(
            place, lambda found: draw(found, holdout, limit, seed), data_dir=data_dir,
            size=None if size is None else (size, size), skip=damaged == "skip", show=progress, layout=layout,
        )  # fmt: skip


def load_parts(
    name: str | Path,
    choose: Choose,
    *,
    data_dir: str | Path | None = None,
    size: Size = None,
    skip: bool = False,
    show: bool = False,
    identified: bool = True,
    layout: Layout | None = None,
    pixels: PixelRange | None = None,
    advice: str = ", or write --damaged skip to leave out what cannot be read",
) -> Dataset:
    """Load a data set whose parts are those of ``choose``, see `oche.data.parts`. The other arguments are as in `load`.

    ``size``: (H, W). ``identified``: whether images get ids, which runs of earlier versions do without. ``pixels``: the range
    of values that a trained network takes; None: what the manifest says, else that of the training part. `AS_BEFORE` reads
    as earlier versions did. ``advice``: the end of the message about a damaged image.
    """
    memory = free_memory_or_estimate() // 2
    try:
        found = _read(str(name), data_dir, size, memory, show, skip, Axes(layout, before=pixels == AS_BEFORE))
        parts = choose(identify(found, show) if identified else found)
        return _finish(str(name), parts, size, memory, show, pixels)
    except Damaged as error:
        raise Damaged(f"{error}{advice}") from error


def load_ids(
    name: str | Path,
    data_dir: str | Path | None = None,
    skip: bool = False,
    show: bool = False,
    layout: Layout | None = None,
) -> Tensor:
    """Return the ids (N,) of all images of the data set ``name``. Raises `OcheError` if it cannot be read."""
    found = identify(_read(str(name), data_dir, None, free_memory_or_estimate() // 2, show, skip, Axes(layout)), show)
    return torch.cat([split.ids for split in (found.train, found.test) if split is not None and split.ids is not None])


def load_measured(
    name: str | Path,
    classes: Sequence[str],
    *,
    channels: int,
    image: tuple[int, int],
    pixels: PixelRange,
    data_dir: str | Path | None = None,
    layout: Layout | None = None,
    skip: bool = False,
    show: bool = False,
) -> RawDataset:
    """Load data to be measured whole by a network: its test part, or all images if there is none. They are ``train``.

    ``classes``, ``channels``, ``image`` (H, W), ``pixels``: those of the network. Nothing is held out. Raises `OcheError`.
    """
    memory = free_memory_or_estimate() // 2
    try:
        with measuring(classes):
            axes = Axes(layout, channels)
            found = identify(_read(str(name), data_dir, image, memory, show, skip, axes), show)
        if found.test is not None:  # of a named set
            note = "; ".join(filter(None, (found.note, "measured is its test part")))
            found = replace(found, train=found.test, test=None, note=note)
        found, _ = to_eight_bits(found, pixels, str(name), show)
        split = found.train
        if isinstance(split, Streamed) and (split.shape[0], channels) == (1, 3):
            split = split.in_colour()  # grey images among coloured ones are converted in training, too
        split = _decode_if_it_fits(replace(found, train=split), image, memory, show, ways="")[0]
    except Damaged as error:
        raise Damaged(f"{error}, or write --damaged skip to leave out what cannot be read") from error
    return replace(found, train=split)


def _finish(name: str, parts: Parts, size: Size, memory: int, show: bool, pixels: PixelRange | None) -> Dataset:
    """Map the images to 8 bits, decode them if memory allows, measure them, and return the data set."""
    manifest = parts.manifest
    recorded = None if manifest is None else manifest.facts.get("pixels")
    if pixels is None and recorded is not None:
        pixels = PixelRange(*recorded)
    found, pixels = to_eight_bits(parts.found, pixels, name, show)
    train, test = _decode_if_it_fits(found, size, memory, show)
    image = train.shape[1], train.shape[2]
    if min(image) < SMALLEST:
        raise OcheError(
            f"{name} has images of {image[1]}x{image[0]} pixels; networks need {SMALLEST} a side: give a size"
        )
    mean, std = _moments(train, test, show)
    if manifest is not None and "mean" in manifest.facts:  # as the run began, for images may have gone since
        mean, std = tuple(manifest.facts["mean"]), tuple(manifest.facts["std"])
    elif manifest is not None:
        kept = (pixels.low, pixels.high, pixels.kind)
        manifest = manifest.with_facts(
            image=image, channels=train.shape[0], mean=mean, std=std, note=found.note, pixels=kept
        )
    return Dataset(
        found.name, train, test, found.classes, mean, std, default_augment(found.name, image), found.note, manifest,
        parts.first_half, parts.changes, pixels=pixels,
    )  # fmt: skip


def _read(
    name: str, data_dir: str | Path | None, size: Size, memory: int, show: bool, skip: bool, axes: Axes = Axes(),
) -> RawDataset:  # fmt: skip
    """Read the data set with the reader that fits ``name``. Raises `OcheError` if none does."""
    if name in DATASETS:
        return named.read(name, None if data_dir is None else Path(data_dir).expanduser(), memory, show)
    if name.startswith("hf:"):
        return hub.read(name, size, show, skip)
    path = Path(name).expanduser()
    if path.is_dir():
        return folder.read(path, size, show, skip)
    read_npz = partial(tables.read_npz, axes=axes)
    reader = {".parquet": partial(tables.read_parquet, skip=skip), ".npz": read_npz}.get(path.suffix.lower())
    if reader is not None and path.is_file():
        return reader(path, size, memory, show)
    possible = f"use {', '.join(DATASETS)}, {', '.join(FORMS)}"
    if path.exists():
        raise OcheError(
            f"oche cannot read {name}, a file of an unknown kind; unpack it if it is an archive, else {possible}"
        )
    what = "no such file or folder as" if "/" in name or path.suffix else "no data called"
    raise OcheError(f"there is {what} {name!r}; {possible}{did_you_mean(name, list(DATASETS))}")


def _decode_if_it_fits(
    found: RawDataset, size: Size, memory: int, show: bool, ways: str = "a smaller size or a limit, or "
) -> tuple[Split, Split | None]:
    """Return (training part, test part) in the wanted size: decoded if both fit in ``memory`` bytes, otherwise streamed.

    Raises `OcheError` for decoded images that would not fit after scaling; ``ways`` are options that help.
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
                f"{plural(count, 'image')} of {size[1]}x{size[0]} pixels take {need / 1e9:.1f} GB and "
                f"{memory / 1e9:.1f} GB may be "
                f"used; give {ways}a folder of images, which streams"
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
