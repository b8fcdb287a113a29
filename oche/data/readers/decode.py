"""Encoded images: where they are, what their headers say, and their pixels as uint8. Pillow does the decoding.

A header gives size, mode and format for a few dozen bytes, so every image is checked before any is decoded.
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
    """An image cannot be decoded."""


class EncodedImages(Protocol):
    """Encoded images by number, wherever they are stored."""

    def __len__(self) -> int: ...

    def read(self, i: int) -> Encoded:
        """Return the file or the bytes of image ``i``. Raises `OcheError` if there are none. Several threads call this."""
        ...

    def name(self, i: int) -> str:
        """Return the name of image ``i`` for error messages."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Images in files."""

    paths: Sequence[Path | str]
    """text takes a quarter of the memory of Path objects, which matters for many images"""

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, i: int) -> Encoded:
        return Path(self.paths[i])

    def name(self, i: int) -> str:
        return str(self.paths[i])


@dataclass(frozen=True, slots=True)
class Header:
    """The facts in the first bytes of an image."""

    size: tuple[int, int]  # (H, W) after the EXIF orientation
    grey: bool
    format: str


def read_header(items: EncodedImages, i: int) -> Header:
    """Return the header of image ``i``. Raises `OcheError` with its name if the image cannot be used."""

    def look(image: Image.Image) -> Header:
        w, h = image.size
        if not w * h:
            raise ValueError(f"{w}x{h} pixels")
        if w * h > (Image.MAX_IMAGE_PIXELS or w * h):
            raise ValueError(f"{w}x{h} pixels: more than Pillow considers safe")
        if image.mode == "F":
            raise ValueError("floating-point pixels; save it with 8 bits a channel")
        return Header((w, h) if _orientation(image) >= 5 else (h, w), image.mode in _GREY, image.format or "")

    return _open(items, i, look)


def decode(items: EncodedImages, i: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """Return the pixels uint8 (C, H, W) of image ``i``, scaled to cover ``size`` (H, W) and cut to its centre.

    ``channels`` is 1 for grey and 3 for colour. Transparency is dropped; 16-bit grey keeps its upper 8 bits. Raises
    `Damaged` with the name of an image that cannot be decoded.
    """

    def pixels(image: Image.Image) -> np.ndarray:
        if image.size != (size[1], size[0]):
            side = 2 * max(size)
            image.draft(None, (side, side))  # JPEG: decode at a lower resolution of at least twice the wanted size
        image = _eight_bits(image, channels)
        if image.size != (size[1], size[0]):
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[None] if channels == 1 else array.transpose(2, 0, 1)

    return _open(items, i, pixels)


def decode_fully(items: EncodedImages, i: int) -> tuple[int, int]:
    """Decode image ``i`` to its end and return its (H, W). Raises `OcheError` with its name if the image cannot be used."""

    def pixels(image: Image.Image) -> tuple[int, int]:
        image.load()
        return image.height, image.width

    read_header(items, i)
    return _open(items, i, pixels)


def _open(items: EncodedImages, i: int, use: Callable[[Image.Image], T]) -> T:
    """Return ``use(image)`` for image ``i``. Any error becomes `Damaged` with the name of the image."""
    encoded = items.read(i)
    try:
        with Image.open(_stream(encoded)) as image:
            return use(image)
    except Exception as error:  # Pillow's plugins raise any kind of error for damaged bytes
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
    """Return the EXIF orientation of ``image``, 1 if there is none."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF with sound pixels: the image is used as stored
        return 1


def _eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """Return ``image`` upright, as 8-bit grey or RGB."""
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")
