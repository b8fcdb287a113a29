"""Which values of the source become the grey levels 0 to 255: one rule for all integers and floats, and for all readers.

8-bit values stay. Integers of wider types that lie in 0..255 stay. Floats in [0, 1] are multiplied by 255. All other values
are mapped linearly, so that the lowest and the highest value of the training part become 0 and 255. The range belongs to the
data set, not to one image, and travels with the network that was trained on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from oche.core.errors import OcheError

Kind = Literal["integers", "floats"]
_SAMPLED = 1 << 16  # values of an image from which its percentiles are estimated
_AT_ONCE = 1 << 22  # values that are converted together, since doubles take eight times the memory
OUTSIDE = 0.05
"""share of values outside of a range above which they are of another range"""
NARROW = 8
"""a range that is so many times narrower is another one"""


@dataclass(frozen=True)
class PixelRange:
    """A linear map of pixel values: ``low`` becomes 0, ``high`` becomes 255; rounded (half to even) and clipped.

    Raises `OcheError` unless low < high, both finite.
    """

    low: float = 0.0
    high: float = 255.0
    kind: Kind = "integers"

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high - self.low) and self.low < self.high):
            raise OcheError(
                f"a range of pixels from {number(self.low)} to {number(self.high)} is none; give low < high"
            )

    def __str__(self) -> str:
        return f"{number(self.low)}..{number(self.high)}"

    @property
    def usual(self) -> bool:
        """Whether these are levels of 0..255, or floats of [0, 1]: the same pictures in two notations."""
        return (self.low, self.high) == (0, 255) or self == UNIT

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Return the grey levels, uint8, of ``values`` of any shape and type. Computed in float64."""
        out = np.empty(values.shape, np.uint8)
        step = max(1, _AT_ONCE // max(1, values[:1].size))
        for k in range(0, len(values), step):
            x = (values[k : k + step].astype(np.float64) - self.low) * (255 / (self.high - self.low))
            out[k : k + step] = np.rint(x).clip(0, 255)
        return out

    def levels_of_tensor(self, values: Tensor) -> Tensor:
        """Return the grey levels, uint8, of ``values`` of any shape and type, on their device."""
        wide = torch.float32 if values.device.type == "mps" else torch.float64
        x = (values.to(wide) - self.low) * (255 / (self.high - self.low))
        return x.round().clamp(0, 255).to(torch.uint8)

    def values(self, levels: Tensor) -> Tensor:
        """Return the source values (float32) in the middle of those that become ``levels`` (uint8)."""
        return (levels.double() * ((self.high - self.low) / 255) + self.low).float()


EIGHT_BITS = PixelRange()
UNIT = PixelRange(0.0, 1.0, "floats")
AS_BEFORE = PixelRange(127.5, 65407.5)
"""The rule of runs that recorded no range: 16-bit values keep their upper 8 bits, ⌊v / 256⌋, which this map gives exactly"""


@dataclass(frozen=True)
class Extent:
    """The lowest and the highest value of some images, and what else of them chooses a range.

    ``outside`` of ``count`` values lie outside of a range that was given.
    """

    low: float
    high: float
    kind: Kind
    whole: bool
    """whether all are whole numbers"""
    type: str
    """of the values, such as uint16"""
    count: int = 0
    outside: int = 0
    most: tuple[float, float] = (0.0, 0.0)
    """the first and the last percentile, averaged over the images"""

    @classmethod
    def of(cls, values: np.ndarray, pixels: PixelRange | None = None) -> Extent:
        """Measure ``values``. Raises `ValueError` where one of them is not finite, or the type is no number."""
        if values.dtype.kind not in "iuf":
            raise ValueError(f"pixels of type {values.dtype}, which are no integers or floats")
        low, high = values.min().item(), values.max().item()
        if not (isfinite(low) and isfinite(high)):
            raise ValueError("pixels that are nan or infinite")
        whole = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
        outside = 0 if pixels is None else int(np.count_nonzero((values < pixels.low) | (values > pixels.high)))
        kind: Kind = "floats" if values.dtype.kind == "f" else "integers"
        sample = values.reshape(-1)[:: max(1, values.size // _SAMPLED)].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            most = (float(np.percentile(sample, 1)), float(np.percentile(sample, 99)))
        name = values.dtype.newbyteorder("=").name
        return cls(float(low), float(high), kind, whole, name, values.size, outside, most)

    def __or__(self, other: Extent) -> Extent:
        kind: Kind = "floats" if "floats" in (self.kind, other.kind) else "integers"
        count = self.count + other.count
        most = [(a * self.count + b * other.count) / count for a, b in zip(self.most, other.most, strict=True)]
        return Extent(
            min(self.low, other.low), max(self.high, other.high), kind, self.whole and other.whole,
            self.type if self.type == other.type else f"{self.type} and {other.type}",
            count, self.outside + other.outside, (most[0], most[1]),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.type} values {number(self.low)}..{number(self.high)}"

    @property
    def usual_range(self) -> PixelRange | None:
        """The range of 8-bit values and of floats in [0, 1], if these are such; else None."""
        if self.kind == "floats" and self.low >= 0 and self.high <= 1:
            return UNIT
        if self.whole and self.low >= 0 and self.high <= 255:
            return PixelRange(kind=self.kind)
        return None


def choose_range(name: str, train: Extent, test: Extent | None) -> tuple[PixelRange, str]:
    """Return the range of a data set from what its parts hold, and a note about it for reports.

    Raises `OcheError` where all values of the training part are equal.
    """
    found = (train if test is None else train | test).usual_range
    if found is not None:
        return found, _NOTES[found]
    if train.low == train.high:
        raise OcheError(
            f"{name}: all pixels of the training images are {number(train.low)}; give images that show something"
        )
    try:
        pixels = PixelRange(train.low, train.high, train.kind)
    except OcheError:
        raise OcheError(f"{name} has {train}, too far apart to be mapped to 0..255; clip them") from None
    note = f"{train.type} values {pixels} were mapped to 0..255"
    if test is not None and (test.low < pixels.low or test.high > pixels.high):
        note += f" (those of the test part, {number(test.low)}..{number(test.high)}, were clipped to them)"
    most_low, most_high = train.most
    if (most_high - most_low) * NARROW < train.high - train.low:
        note += (
            f", of which most lie in {most_low:.4g}..{most_high:.4g}: if the others are faulty pixels, clip them, since they "
            "stretch the range"
        )
    return pixels, note


_NOTES = {
    UNIT: "float images were rounded to 8 bits",
    EIGHT_BITS: "",
    PixelRange(kind="floats"): "",
}


def check_range(name: str, found: Extent | None, pixels: PixelRange) -> PixelRange:
    """Return the range to map ``found`` by for a network of ``pixels``; ``found`` None: 8-bit images.

    Raises `OcheError` where the images are not of the network's range.
    """
    usual = pixels.usual or pixels == AS_BEFORE
    trained = "8-bit images" if usual else f"{pixels.kind} {pixels}"
    if found is None:
        if usual:
            return EIGHT_BITS
        raise OcheError(f"{name} has 8-bit images, and the network was trained on {trained}; give images of that range")
    if usual:
        if found.usual_range is None:
            raise OcheError(
                f"{name} has {found}, and the network was trained on {trained}; map them to 0..255 in the way that suits them"
            )
        return found.usual_range
    if found.outside > OUTSIDE * found.count or (found.high - found.low) * NARROW < pixels.high - pixels.low:
        raise OcheError(f"{name} has {found}, and the network was trained on {trained}; give images of that range")
    return pixels


def number(value: float) -> str:
    """Return ``value`` in few digits, whole numbers in full."""
    whole = isfinite(value) and value == int(value) and abs(value) < 1e15
    return str(int(value)) if whole else f"{value:.6g}"
