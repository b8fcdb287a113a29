"""Arrays of images of any numeric type: which axis is the channel, and a split that holds them as they are.

Shapes: N images of C channels, H × W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.dataset import Batch, Resident, Split
from oche.data.pixel_range import Extent, PixelRange
from oche.data.registry import SMALLEST

Layout = Literal["NHWC", "NCHW"]


@dataclass(frozen=True)
class Axes:
    """What is known of the axes of arrays: their ``layout``, or the number of ``channels`` of the network that they are for."""

    layout: str | None = None
    channels: int | None = None
    before: bool = False
    """whether C is the shorter of the second and the last axis (the last of equal ones), as in earlier versions"""


CHANNELS = range(1, 5)
"""numbers of channels by which their axis is known: grey, grey and alpha, colour, colour and alpha"""
_AT_ONCE = 1 << 22  # values that are measured together


def image_split(images: np.ndarray, labels: Tensor, where: str) -> Split:
    """Return the split of ``images`` (N, C, H, W). ``where`` names them in errors.

    uint8 and bool (0 and 255) are kept as uint8. Other integers and floats are kept as they are until `Split.mapped`.
    Raises `OcheError` for other types, and for images that are too small.
    """
    if min(images.shape[2:]) < SMALLEST:
        h, w = images.shape[2:]
        raise OcheError(f"{where} has images of {w}x{h} pixels; networks need {SMALLEST} a side")
    if images.dtype == np.bool_:
        images = images.astype(np.uint8) * 255
    if images.dtype == np.uint8:
        return Resident(torch.from_numpy(np.ascontiguousarray(images)), labels)
    if images.dtype.kind not in "iuf":
        raise OcheError(f"{where} is {images.dtype}; give images of integers, floats or bools")
    return SourceArray(images, labels, where)


def channels_first(images: np.ndarray, where: str, axes: Axes = Axes()) -> np.ndarray:
    """Return ``images`` as (N, C, H, W), without a copy.

    With four axes C is the axis that the layout (NHWC or NCHW) names. Without one, C is the second or the last axis: the one
    with the channels of the network, if only one has so many; else the one with 1 to 4 entries. Raises `OcheError` if both or
    none have, and for other numbers of axes.
    """
    if images.ndim not in (3, 4) or not images.size:
        raise OcheError(f"{where} has shape {images.shape}; give images (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if images.ndim == 3:
        return images[:, None]
    layout = axes.layout
    if axes.before:
        layout = "NCHW" if images.shape[1] < images.shape[3] else "NHWC"
    return images.transpose(0, 3, 1, 2) if channels_last(images.shape, where, layout, axes.channels) else images


def channels_last(shape: Sequence[int], where: str, layout: str | None = None, channels: int | None = None) -> bool:
    """Tell whether images of a ``shape`` with four axes are (N, H, W, C) rather than (N, C, H, W); see `channels_first`."""
    if layout is not None:
        return layout == "NHWC"
    if channels is not None and (shape[1] == channels) != (shape[3] == channels):
        return shape[3] == channels
    second, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if second == last:
        both = "both the second and the last axis have" if second else "neither the second nor the last axis has"
        raise OcheError(
            f"{where} has shape {tuple(shape)}, in which {both} 1 to 4 entries, so the axis of the channels is not known; "
            "write --layout NHWC if it is the last, --layout NCHW if it is the second"
        )
    return last


class SourceArray(Split):
    """Images in an array of a wide type, (N, C, H, W). `gather` returns them as they are, until `mapped` makes them 8 bits."""

    def __init__(self, images: np.ndarray, labels: Tensor, where: str) -> None:
        self.labels = labels.cpu()
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        self.device = torch.device("cpu")
        self.where = where
        self._images = images
        self._rows = np.arange(len(images))

    def gather(self, index: Tensor) -> Batch:
        images = np.ascontiguousarray(self._images[self._rows[index.cpu().numpy()]])
        return torch.from_numpy(images.astype(images.dtype.newbyteorder("="), copy=False)), self.labels[index.cpu()]

    def subset(self, index: Tensor) -> SourceArray:
        other = copy.copy(self)
        other.labels, other._rows = self.labels[index.cpu()], self._rows[index.cpu().numpy()]
        other.ids = None if self.ids is None else self.ids[index.cpu()]
        return other

    def to(self, device: torch.device | str) -> SourceArray:
        del device  # only 8-bit images go there
        return self

    def extent(self, pixels: PixelRange | None = None, show: bool = False) -> Extent:
        """Return what values the images have. Raises `OcheError` that names an image whose values are not finite."""
        del show
        step = max(1, _AT_ONCE // self._images[0].size)
        pieces = [self._rows[k : k + step] for k in range(0, len(self._rows), step)]
        return reduce(or_, (self._measure(piece, pixels) for piece in pieces))

    def _measure(self, rows: np.ndarray, pixels: PixelRange | None) -> Extent:
        images = self._images[rows]
        try:
            return Extent.of(images, pixels)
        except ValueError as error:
            broken = ~np.isfinite(images).all((1, 2, 3))
            raise OcheError(f"{self.where}[{rows[broken.argmax()]}] has {error}; replace or remove it") from None

    def mapped(self, pixels: PixelRange) -> Resident:
        images = np.empty((len(self._rows), *self.shape), np.uint8)
        step = max(1, _AT_ONCE // self._images[0].size)
        for k in range(0, len(images), step):
            images[k : k + step] = pixels.levels(self._images[self._rows[k : k + step]])
        made = Resident(torch.from_numpy(images), self.labels)
        made.ids = self.ids
        return made
