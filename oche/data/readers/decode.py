"""Encoded images: where they are, what their headers say, and their pixels as uint8. Pillow does the decoding.

A header gives size, mode and format for a few dozen bytes, so every image is checked before any is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image, ImageOps, features

from oche.core.errors import OcheError
from oche.data.pixel_range import AS_BEFORE, Extent, PixelRange
from oche.data.readers.deep_images import has_spare_band, is_grey_alpha, source_kind, source_values

_AVIF = (".avif",)
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    *(_AVIF if features.check("avif") else ()),
)  # fmt: skip
HEIF = (".heic", ".heif", ".hif", *(() if features.check("avif") else _AVIF))  # read with the package pillow-heif
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
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
    transparent: bool = False  # whether there is an alpha channel or a transparent colour
    frames: bool = False  # whether there are more pictures than the first, which is read
    kind: str = ""  # integers or floats, if there are more than 8 bits a channel
    spare: bool = False  # whether there is a band that is neither colour nor transparency


@cache
def use_heif() -> bool:
    """Teach Pillow to read HEIC (and AVIF, if it cannot itself) with the package pillow-heif. Return whether that is there."""
    try:
        import pillow_heif  # type: ignore[import-not-found]
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    if not features.check("avif") and hasattr(pillow_heif, "register_avif_opener"):
        pillow_heif.register_avif_opener()
    return True


def read_header(items: EncodedImages, i: int) -> Header:
    """Return the header of image ``i``. Raises `OcheError` with its name if the image cannot be used."""

    def look(image: Image.Image) -> Header:
        w, h = image.size
        if not w * h:
            raise ValueError(f"{w}x{h} pixels")
        if w * h > (Image.MAX_IMAGE_PIXELS or w * h):
            raise ValueError(f"{w}x{h} pixels: more than Pillow considers safe")
        kind, grey = (
            source_kind(image),
            image.mode in _GREY or is_grey_alpha(image),
        )  # before Pillow decodes it for its EXIF
        turned = _orientation(image) >= 5 and image.format != "TIFF"  # of a TIFF Pillow gives the size after turning it
        return Header(
            (w, h) if turned else (h, w), grey, image.format or "",
            transparent=image.mode in _ALPHA or "transparency" in image.info, frames=_has_frames(image), kind=kind,
            spare=has_spare_band(image),
        )  # fmt: skip

    return _open(items, i, look)


def decode(
    items: EncodedImages, i: int, size: tuple[int, int], channels: int, deep: PixelRange = AS_BEFORE
) -> np.ndarray:
    """Return the pixels uint8 (C, H, W) of image ``i``, scaled to cover ``size`` (H, W) and cut to its centre.

    ``channels`` is 1 for grey and 3 for colour. Transparency is dropped: the colours stored below it are used. Of several
    pictures in a file the first is used. ``deep`` maps the values of images with more than 8 bits a channel. Raises
    `Damaged` with the name of an image that cannot be decoded.
    """

    def pixels(image: Image.Image) -> np.ndarray:
        if image.size != (size[1], size[0]):
            side = 2 * max(size)
            image.draft(None, (side, side))  # JPEG: decode at a lower resolution of at least twice the wanted size
        image = _eight_bits(image, channels, deep)
        if image.size != (size[1], size[0]):
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[None] if channels == 1 else array.transpose(2, 0, 1)

    return _open(items, i, pixels)


def decode_fully(items: EncodedImages, i: int) -> tuple[int, int]:
    """Decode image ``i`` to its end and return its (H, W). Raises `OcheError` with its name if the image cannot be used."""

    def pixels(image: Image.Image) -> tuple[int, int]:
        if source_kind(image):
            Extent.of(source_values(image))  # raises for values that are not finite
        image.load()
        return image.height, image.width

    read_header(items, i)
    return _open(items, i, pixels)


def _open(items: EncodedImages, i: int, use: Callable[[Image.Image], T]) -> T:
    """Return ``use(image)`` for image ``i``. Any error becomes `Damaged` with the name of the image."""
    encoded = items.read(i)
    try:
        with _identify(encoded) as image:
            return use(image)
    except Exception as error:  # Pillow's plugins raise any kind of error for damaged bytes
        reason = str(error).split("\n")[0]
        if isinstance(error, FileNotFoundError):
            reason = "there is no such file"
        elif isinstance(error, Image.UnidentifiedImageError):
            bands = (
                "a TIFF that Pillow does not know, such as one of more than 4 bands: put such images into an npz file"
            )
            heif = "HEIC, which needs the package pillow-heif: pip install pillow-heif"
            reason = (
                "empty"
                if _length(encoded) == 0
                else heif
                if _is_heif(encoded)
                else bands
                if _is_tiff(encoded)
                else "not an image that Pillow knows"
            )
        raise Damaged(f"{items.name(i)} cannot be read ({reason}); replace or remove it") from error


def _identify(encoded: Encoded) -> Image.Image:
    """Open an image. What Pillow does not know itself is tried again with pillow-heif, if it is HEIC."""
    try:
        return Image.open(_stream(encoded))
    except Image.UnidentifiedImageError:
        if not (_is_heif(encoded) and use_heif()):
            raise
        return Image.open(_stream(encoded))


def _head(encoded: Encoded) -> bytes:
    if isinstance(encoded, bytes):
        return encoded[:12]
    with encoded.open("rb") as file:
        return file.read(12)


def _is_tiff(encoded: Encoded) -> bool:
    return _head(encoded)[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _is_heif(encoded: Encoded) -> bool:
    head = _head(encoded)
    return head[4:8] == b"ftyp" and head[8:12] in (
        b"heic",
        b"heix",
        b"hevc",
        b"heim",
        b"heis",
        b"mif1",
        b"msf1",
        b"avif",
    )


def _has_frames(image: Image.Image) -> bool:
    """Tell whether an animation or a file of several pages holds more than the first picture.

    A photograph with its own preview behind it (MPO) is one picture.
    """
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second picture with a sound first one
        return False


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


def measure(items: EncodedImages, i: int, pixels: PixelRange | None = None) -> Extent:
    """Return the extent of the values of image ``i``, which has more than 8 bits a channel. Raises `Damaged` with its name.

    ``pixels``: the range outside of which values are counted.
    """
    return _open(items, i, lambda image: Extent.of(source_values(image), pixels))


def _eight_bits(image: Image.Image, channels: int, deep: PixelRange) -> Image.Image:
    """Return ``image`` upright, as 8-bit grey or RGB."""
    if source_kind(image):
        image = Image.fromarray(deep.levels(source_values(image)))
    elif _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")
