"""Image files with more than 8 bits a channel: their kind of values, and all bits of them.

Pillow opens grey ones with all their bits, and keeps the upper 8 bits of colours. To get the lower ones too, the same file is
decoded a second time with a raw mode that takes the other byte of each value.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import Image, ImageOps

_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
# Raw mode of Pillow, which takes one byte of each value → one that takes the other byte.
_SECOND = {
    **{f"{bands};16{a}": f"{bands};16{b}" for bands in ("RGB", "RGBA", "RGBX") for a, b in ("LB", "BL")},
    **{f"{bands};16N": f"{bands};16{_OTHER}" for bands in ("RGB", "RGBA", "RGBX")},
}
_GREY_ALPHA = "LA;16B"  # as RGBA its bytes are: grey high, grey low, alpha high, alpha low
_BANDS = 4


def source_kind(image: Any) -> str:
    """Return integers or floats for an open ``image`` with more than 8 bits a channel, signed ones among them; else "".

    Raises `ValueError` for images whose bits or bands Pillow would drop.
    """
    raw = raw_mode(image)
    if (bands := _tag(image, "SAMPLESPERPIXEL", 1)) > _BANDS:
        raise ValueError(f"{bands} bands; image files may have up to {_BANDS}: put such images into an npz file")
    if image.mode == "F":
        return "floats"
    if image.mode.startswith("I") or _is_signed(image) or raw in _SECOND or raw == _GREY_ALPHA or _maximum(image) > 255:
        return "integers"
    if image.format in ("PNG", "TIFF", "SGI") and (";16" in raw or max(_as_tuple(_tag(image, "BITSPERSAMPLE", 8))) > 8):
        raise ValueError(
            f"more than 8 bits a channel in a form that cannot be read whole ({raw}); save it as a plain PNG"
        )
    return ""


def is_grey_alpha(image: Any) -> bool:
    """Tell whether ``image`` is grey with transparency in 16 bits each, which Pillow shows as colour."""
    return raw_mode(image) == _GREY_ALPHA


def source_values(image: Any) -> np.ndarray:
    """Return the values (H, W), or (H, W, 3) of colours, of an ``image`` for which `source_kind` names one. It is upright."""
    raw = raw_mode(image)
    if raw == _GREY_ALPHA:
        high, low, *_ = _decoded(image, "RGBA").transpose(2, 0, 1).astype(np.uint16)
        return high * 256 + low
    if raw in _SECOND:
        low = _decoded(image, _SECOND[raw])[..., :3].astype(np.uint16)
        return np.asarray(_upright(image))[..., :3].astype(np.uint16) * 256 + low
    if (maximum := _maximum(image)) > 255:
        return _pixmap(image, maximum)
    bits, signed, unsigned = max(_as_tuple(_tag(image, "BITSPERSAMPLE", 8))), _is_signed(image), _is_unsigned(image)
    values = np.asarray(_upright(image))
    if signed and values.dtype == np.uint8:
        return values.view(np.int8)
    return values.view(np.uint32) if unsigned and bits == 32 and values.dtype == np.int32 else values


def raw_mode(image: Any) -> str:
    """Return the name of the form in which the file holds the pixels of the open ``image``."""
    args: Any = image.tile[0][3] if getattr(image, "tile", None) else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _decoded(image: Any, raw: str) -> np.ndarray:
    """Return the pixels that the raw mode ``raw`` takes from the file of ``image``."""
    image.fp.seek(0)
    again = Image.open(image.fp)
    again.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in again.tile
    ]
    return np.asarray(_upright(again))


def _upright(image: Any) -> Image.Image:
    return ImageOps.exif_transpose(image)


def _pixmap(image: Any, maximum: int) -> np.ndarray:
    """Return the colours of a binary pixmap whose values go to ``maximum``, scaled to 0..65535 as Pillow does for grey ones."""
    w, h = image.size
    image.fp.seek(image.tile[0][2])
    found = np.frombuffer(image.fp.read(6 * w * h), ">u2")
    if len(found) < 3 * w * h:
        raise ValueError("image file is truncated")
    return np.rint(found.reshape(h, w, 3).astype(np.float64) * (65535 / maximum)).clip(0, 65535).astype(np.uint16)


def _maximum(image: Any) -> int:
    """Return the largest value that the binary pixmap ``image`` (PPM) may have; 0 for other files."""
    if image.format != "PPM" or image.mode != "RGB" or not image.tile:
        return 0
    codec, args = image.tile[0][0], image.tile[0][3]
    largest = args[1] if isinstance(args, tuple) and isinstance(args[1], int) else 0
    if codec == "raw" or largest <= 255:
        return 0
    if codec != "ppm":
        raise ValueError("more than 8 bits a channel in plain text; save it as a PNG")
    return largest


_TAGS = {"BITSPERSAMPLE": 258, "SAMPLESPERPIXEL": 277, "EXTRASAMPLES": 338, "SAMPLEFORMAT": 339}


def _tag(image: Any, name: str, default: Any) -> Any:
    """Return the tag ``name`` of a TIFF; ``default`` where it is absent, and for other files."""
    return image.tag_v2.get(_TAGS[name], default) if image.format == "TIFF" else default


def _is_signed(image: Any) -> bool:
    return 2 in _as_tuple(_tag(image, "SAMPLEFORMAT", (1,)))


def _is_unsigned(image: Any) -> bool:
    return image.format == "TIFF" and set(_as_tuple(_tag(image, "SAMPLEFORMAT", (1,)))) == {1}


def _as_tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def has_spare_band(image: Any) -> bool:
    """Tell whether a TIFF has a band that is neither colour nor transparency, which Pillow drops."""
    return 0 in _as_tuple(_tag(image, "EXTRASAMPLES", ()))
