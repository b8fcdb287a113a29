"""Encoded images: where they are, what their headers say, and their pixels as uint8. All through Pillow.

A header tells size, mode and format for a few dozen bytes, so every image is checked before any is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageOps

from oche.core.errors import OcheError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
_ORIENTATION = 0x0112  # EXIF tag: how the camera was held; 5 to 8 swap width and height
Encoded = Path | bytes
T = TypeVar("T")


class Damaged(OcheError):
    """An image that cannot be decoded."""


class EncodedImages(Protocol):
    """Encoded images by number, wherever they are."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> Encoded:
        """The file or the bytes of image ``i``; `OcheError` where there are none. Called from several threads."""
        ...

    def name(self, i: int) -> str:
        """How an error message calls image ``i``."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Images that are files."""

    paths: Sequence[Path | str]
    """of many as text, which takes a quarter of the memory"""

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, i: int) -> Encoded:
        return Path(self.paths[i])

    def name(self, i: int) -> str:
        return str(self.paths[i])


@dataclass(frozen=True, slots=True)
class Header:
    """What an image's first bytes say of it."""

    size: tuple[int, int]  # (H, W) as it will be shown, after the EXIF orientation
    grey: bool
    format: str


def read_header(items: EncodedImages, i: int) -> Header:
    """The header of image ``i``; `OcheError` naming it when it is no image that can be used."""

    def look(image: Image.Image) -> Header:
        w, h = image.size
        if not w * h:
            raise ValueError(f"{w}x{h} pixels")
        if w * h > (Image.MAX_IMAGE_PIXELS or w * h):
            raise ValueError(f"{w}x{h} pixels: more than Pillow takes for safe")
        if image.mode == "F":
            raise ValueError("floating-point pixels; save it with 8 bits a channel")
        return Header((w, h) if _orientation(image) >= 5 else (h, w), image.mode in _GREY, image.format or "")

    return _open(items, i, look)


def decode(items: EncodedImages, i: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """Pixels uint8 (C, H, W) of image ``i``, scaled to cover ``size`` and cut to its centre; C = 1 is grey, 3 colour.

    Transparency is dropped; 16-bit grey keeps its upper 8 bits. `OcheError` naming the image when it cannot be decoded.
    """

    def pixels(image: Image.Image) -> np.ndarray:
        if image.size != (size[1], size[0]):
            side = 2 * max(size)
            image.draft(None, (side, side))  # JPEG: decode at a lower resolution that is still ample
        image = _eight_bits(image, channels)
        if image.size != (size[1], size[0]):
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[None] if channels == 1 else array.transpose(2, 0, 1)

    return _open(items, i, pixels)


def decode_fully(items: EncodedImages, i: int) -> tuple[int, int]:
    """Decodes image ``i`` to its end; its (H, W). `OcheError` naming it when it cannot be used."""

    def pixels(image: Image.Image) -> tuple[int, int]:
        image.load()
        return image.height, image.width

    read_header(items, i)
    return _open(items, i, pixels)


def _open(items: EncodedImages, i: int, use: Callable[[Image.Image], T]) -> T:
    encoded = items.read(i)
    try:
        with Image.open(_stream(encoded)) as image:
            return use(image)
    except Exception as error:  # Pillow's plugins raise whatever damaged bytes lead them to
        reason = str(error).split("\n")[0]
        if isinstance(error, FileNotFoundError):
            reason = "there is no such file"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = "empty" if _length(encoded) == 0 else "not an image that Pillow knows"
        raise Damaged(f"{items.name(i)} cannot be read ({reason}); replace or remove it") from error


def _stream(encoded: Encoded) -> Path | io.BytesIO:
    return io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded


def _length(encoded: Encoded) -> int:
    return len(encoded) if isinstance(encoded, bytes) else encoded.stat().st_size


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF beside sound pixels: the image is used as stored
        return 1


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")
