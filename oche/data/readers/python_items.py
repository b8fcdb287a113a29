"""The items of a Python data set, read once and stacked: images as one array, labels as integers or text.

Shapes: N images, H × W pixels, C channels, K classes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from oche.core.arguments import short
from oche.core.console import progress_bar
from oche.core.errors import OcheError, one_line
from oche.data.readers.decode import use_heif
from oche.data.readers.deep_images import source_kind, source_values
from oche.data.readers.parquet_npz import IMAGE, LABEL
from oche.data.readers.pixels import channels_last
from oche.data.readers.records import USUAL
from oche.data.registry import SMALLEST

_GREY = ("1", "L", "LA", "La")  # modes of Pillow


@dataclass(frozen=True)
class Stacked:
    """The images (N, H, W, C) and labels of one part, as they were handed over."""

    images: np.ndarray
    labels: list[Any]
    notes: tuple[str, ...] = ()


def read_items(
    items: Any, where: str, memory: int, *, size: tuple[int, int] | None, layout: str | None, show: bool = False
) -> Stacked:
    """Read every item of ``items`` once, in order, and stack them. ``where`` names them in errors.

    An item is (image, label), or a mapping with one of each. An image is a PIL image, a tensor or an array, (H, W) or with
    channels (see `hwc`), or an encoded image: a path or bytes. Images of differing sizes are scaled to cover ``size`` and
    cut to their centre, as those of a folder are; without ``size`` to 64 pixels a side, or to the median of their shorter
    sides if that is less. They are read a second time for that. Raises `OcheError` with the number of the item that has
    another form or cannot be read, and if the images do not fit in ``memory`` bytes.
    """
    count = _length(items, where)
    images: list[np.ndarray] | None = []
    labels: list[Any] = []
    sizes: list[tuple[int, int]] = []
    with progress_bar("reading items", count, show) as advance:
        for i in range(count):
            image, label = _item(items, i, where)
            pixels = hwc(image, f"{where}[{i}]", layout)
            sizes.append((pixels.shape[0], pixels.shape[1]))
            if size is not None:
                pixels = cover(pixels, size)
            if not i:
                _check_memory(where, count, pixels, memory)
            if images is not None and images and images[0].shape[:2] != pixels.shape[:2]:
                images = None  # of differing sizes: only their sizes matter until all are known
            if images is not None:
                images.append(pixels)
            labels.append(label_of(label, f"{where}[{i}]"))
            advance(1)
    if images is None:
        side = _usual_side(sizes, where)
        again = read_items(items, where, memory, size=(side, side), layout=layout, show=show)
        return replace(
            again,
            notes=(
                *again.notes,
                f"images of differing sizes were scaled and cut to {side}x{side} (size chooses another)",
            ),
        )
    stacked = _stack(images, where)
    return Stacked(stacked, labels, _random_note(items, images[0], where, size, layout))


def _length(items: Any, where: str) -> int:
    try:
        count = len(items)
    except Exception as error:  # the user's own code
        raise OcheError(f"{where} has no length ({_said(error)}); give one with __len__ and __getitem__") from error
    if not count:
        raise OcheError(f"{where} has no items; give it images")
    return count


def _item(items: Any, i: int, where: str) -> tuple[Any, Any]:
    """Return image and label of item ``i``. Raises `OcheError` if the data set fails, or the item is of another form."""
    try:
        item = items[i]
    except Exception as error:  # the user's own code
        raise OcheError(
            f"{where} raised {_said(error)} at item {i} of {len(items)}; mend or leave out that item"
        ) from error
    if isinstance(item, Mapping):
        names = {str(name).lower(): name for name in item}
        found = [next((names[n] for n in known if n in names), None) for known in ((*IMAGE, "pixel_values"), LABEL)]
        if None in found:
            raise OcheError(
                f"{where}[{i}] has {', '.join(map(str, item)) or 'no fields'}; name one of them image and one label, or give "
                "(image, label)"
            )
        return item[found[0]], item[found[1]]
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    raise OcheError(f"{where}[{i}] is {short(item)}; give (image, label)")


def _said(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:200]


def _check_memory(where: str, count: int, first: np.ndarray, memory: int) -> None:
    if (need := count * first.nbytes) > memory:
        raise OcheError(
            f"the {count} images of {where} take {need / 1e9:.1f} GB as {first.dtype} and {memory / 1e9:.1f} GB may be used; "
            "give a size or uint8 images, or write them to a folder of class folders, which streams"
        )


def _usual_side(sizes: list[tuple[int, int]], where: str) -> int:
    """Return the side to which images of differing ``sizes`` are scaled. Raises `OcheError` for one that is too small."""
    if (tiny := next((i for i, s in enumerate(sizes) if min(s) < SMALLEST), None)) is not None:
        h, w = sizes[tiny]
        raise OcheError(
            f"{where}[{tiny}] has {w}x{h} pixels; images need {SMALLEST} a side: remove it, or give a size to scale all to"
        )
    return int(min(USUAL, median(map(min, sizes))))


def _stack(images: list[np.ndarray], where: str) -> np.ndarray:
    """Stack images of one size; grey ones get three channels if others have colour."""
    kinds = {a.dtype for a in images}
    if len(kinds) > 1:
        odd = next(i for i, a in enumerate(images) if a.dtype != images[0].dtype)
        raise OcheError(f"{where}[{odd}] is {images[odd].dtype}, and {where}[0] is {images[0].dtype}; give one type")
    channels = {a.shape[2] for a in images}
    if len(channels) > 1 and channels != {1, 3}:
        odd = next(i for i, a in enumerate(images) if a.shape[2] != images[0].shape[2])
        raise OcheError(
            f"{where}[{odd}] has {images[odd].shape[2]} channels, and {where}[0] has {images[0].shape[2]}; give one number"
        )
    return np.stack([np.broadcast_to(a, (*a.shape[:2], max(channels))) for a in images])


def _random_note(
    items: Any, first: np.ndarray, where: str, size: tuple[int, int] | None, layout: str | None
) -> tuple[str, ...]:
    """Return a note if item 0 is another image when it is read again."""
    again = hwc(_item(items, 0, where)[0], f"{where}[0]", layout)
    again = again if size is None else cover(again, size)
    if again.shape == first.shape and np.array_equal(again, first, equal_nan=again.dtype.kind == "f"):
        return ()
    return (
        "items change from one reading to the next (random transforms?), so each was read once; oche augments them itself",
    )


# --- one image --------------------------------------------------------------------------------------------------------


def hwc(image: Any, name: str, layout: str | None) -> np.ndarray:
    """Return the pixels (H, W, C) of one image, in the type that it has.

    PIL images become grey or RGB, upright and without transparency, in 8 bits unless they have more. Of tensors and arrays
    the axis of channels is told by `oche.data.readers.pixels`, or by ``layout`` (NHWC or NCHW). Raises `OcheError`.
    """
    if isinstance(image, str | PathLike | bytes) or (isinstance(image, Mapping) and {*image} & {"bytes", "path"}):
        image = _opened(image, name)
    if isinstance(image, Image.Image):
        try:
            return _of_pil(image)
        except Exception as error:  # Pillow decodes late, and raises any kind of error
            raise OcheError(f"{name} cannot be read ({_said(error)}); replace or remove it") from error
    array = as_array(image, name)
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim != 3 or not array.size:
        raise OcheError(f"{name} has an image of shape {array.shape}; give (H, W), (H, W, C) or (C, H, W)")
    return array if channels_last((1, *array.shape), name, layout) else array.transpose(1, 2, 0)


def as_array(value: Any, name: str) -> np.ndarray:
    """Return a tensor, an array or numbers in lists as a NumPy array. Raises `OcheError` for anything but numbers."""
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            if value.dtype in (torch.bfloat16, torch.float16):
                value = value.float()
            array = value.numpy()
        else:
            array = np.asarray(value)
    except Exception as error:  # ragged lists, sparse and quantised tensors, objects of any other library
        raise OcheError(
            f"{name} is {short(value)}, which is no array of numbers ({_said(error)[:80]}); give pixels"
        ) from error
    if array.dtype.kind not in "uifb":
        raise OcheError(f"{name} is {short(value)}; give a PIL image, a tensor or an array of numbers")
    return array.astype(np.uint8) * 255 if array.dtype.kind == "b" else array


def _opened(image: Any, name: str) -> Image.Image:
    """Return an encoded image, opened. Raises `OcheError`."""
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path") or b""
    try:
        use_heif()
        return Image.open(io.BytesIO(image) if isinstance(image, bytes) else fspath(image))
    except Exception as error:
        raise OcheError(f"{name} cannot be read ({_said(error)}); replace or remove it") from error


def _of_pil(image: Image.Image) -> np.ndarray:
    if source_kind(image):
        array = source_values(image)
    else:
        image = ImageOps.exif_transpose(image)
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")
        array = np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))
    return array[:, :, None] if array.ndim == 2 else array


def cover(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return ``pixels`` (H, W, C) scaled to cover ``size`` (H, W) and cut to its centre, in the same type."""
    if pixels.shape[:2] == size:
        return pixels

    def fitted(plane: np.ndarray) -> np.ndarray:
        return np.asarray(ImageOps.fit(Image.fromarray(plane), (size[1], size[0]), Image.Resampling.BILINEAR))

    if pixels.dtype == np.uint8:
        return fitted(pixels) if pixels.shape[2] == 3 else np.stack([fitted(p) for p in np.moveaxis(pixels, 2, 0)], 2)
    planes = np.stack([fitted(p.astype(np.float32)) for p in np.moveaxis(pixels, 2, 0)], 2)
    return (np.rint(planes) if pixels.dtype.kind in "ui" else planes).astype(pixels.dtype)


# --- one label --------------------------------------------------------------------------------------------------------


def label_of(label: Any, name: str) -> int | float | str | bool | None:
    """Return a label as a plain value; a row of K numbers with a single 1 is the number of its class. Raises `OcheError`."""
    if isinstance(label, torch.Tensor):
        label = label.detach().cpu().float().numpy() if label.dtype == torch.bfloat16 else label.detach().cpu().numpy()
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, list | tuple) and not isinstance(label, str):
        label = np.asarray(label)
    if isinstance(label, np.ndarray):
        if label.size == 1:
            return label_of(label.reshape(()).item(), name)
        if label.ndim == 1 and label.dtype.kind in "uifb" and label.size:
            if np.isin(label, (0, 1)).all() and label.sum() == 1:
                return int(label.argmax())
            raise OcheError(
                f"{name} has a row of {label.size} numbers as its label, {int((label != 0).sum())} of them not 0; oche takes one "
                "class an image: a number, text, or a row with a single 1"
            )
        raise OcheError(f"{name} has {short(label)} as its label; give a number, text, or a row with a single 1")
    if isinstance(label, bytes):
        return label.decode(errors="replace")
    if label is None or isinstance(label, bool | int | float | str):
        return label
    raise OcheError(f"{name} has {short(label)} as its label; give a number, text, or a row with a single 1")


def as_labels(labels: Sequence[Any], where: str) -> tuple[np.ndarray, str]:
    """Return labels (N,) as integers or text, and a note about what was converted.

    Raises `OcheError` for labels that are missing, fractions, too large, or of several kinds.
    """
    missing = [i for i, v in enumerate(labels) if v is None or (isinstance(v, float) and v != v)]
    if missing:
        more = f" ({len(missing)} in all)" if len(missing) > 1 else ""
        raise OcheError(f"{where}[{missing[0]}] has no label{more}; give it one or leave it out")
    kinds = [str if isinstance(v, str) else bool if isinstance(v, bool) else int for v in labels]
    odd = next((i for i, kind in enumerate(kinds) if kind is not kinds[0]), None)
    if odd is not None:
        raise OcheError(
            f"{where}[{odd}] has the label {labels[odd]!r}, and {where}[0] has {labels[0]!r}; give one kind"
        )
    if kinds[0] is not int:
        return np.array([str(v) for v in labels]), ""
    odd = next((i for i, v in enumerate(labels) if not (abs(v) < 2**53 and v == int(v))), None)
    if odd is not None:
        raise OcheError(
            f"{where}[{odd}] has the label {labels[odd]}, which is no class; number the classes, or name them by text"
        )
    note = "labels were whole numbers stored as floats" if any(isinstance(v, float) for v in labels) else ""
    return np.array([int(v) for v in labels], dtype=np.int64), note
