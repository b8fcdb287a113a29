"""Splits of images and labels, and the data set that holds them.

Shapes: N images of C channels, H × W pixels. Images are uint8 until `prepare` turns a batch into floats.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.data.manifest import Manifest
from oche.data.pixel_range import EIGHT_BITS, Extent, PixelRange
from oche.data.registry import Augment

Batch = tuple[Tensor, Tensor]  # images uint8 (B, C, H, W), labels int64 (B,)
_FLOATS_AT_ONCE = 1 << 24  # values of the images that are resized together


class Split(ABC):
    """One part of a data set: ``labels`` (N,) int64 on the CPU, the ``shape`` (C, H, W) of its images, and a ``device``.

    Batches are gathered on the device.
    """

    labels: Tensor
    shape: tuple[int, int, int]
    device: torch.device
    ids: Tensor | None = None
    """(N,) int64, the identity of each image (`oche.data.identity`); None if it is not known"""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """The bytes of all images when decoded."""
        c, h, w = self.shape
        return len(self) * c * h * w

    @abstractmethod
    def gather(self, index: Tensor) -> Batch:
        """Return the images uint8 (B, C, H, W) and labels int64 (B,) at ``index`` (B,) int64, on this split's device."""

    @abstractmethod
    def subset(self, index: Tensor) -> Split:
        """Return the split of the images at ``index`` (K,) int64. It shares the images; nothing is copied."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Split:
        """Return this split, with batches gathered on ``device``."""

    def extent(self, pixels: PixelRange | None = None, show: bool = False) -> Extent | None:
        """Return what values the source of these images has, None for 8 bits; `mapped` makes them 8 bits.

        ``pixels``: the range outside of which values are counted. ``show``: whether a bar is shown.
        """
        del pixels, show
        return None

    def mapped(self, pixels: PixelRange) -> Split:
        """Return this split with images of more than 8 bits mapped by ``pixels``."""
        del pixels
        return self

    def walk(self, order: Tensor, batch: int) -> Iterator[Batch]:
        """Gather the images at ``order`` (K,) in pieces of ``batch``. The last piece is smaller if K is not a multiple."""
        for piece in order.split(batch):
            yield self.gather(piece)

    def relabelled(self, labels: Tensor) -> Self:
        """Return the same images with the labels (N,) int64."""
        other = copy.copy(self)
        other.labels = labels.cpu()
        return other

    def _with_ids(self, ids: Tensor | None) -> Self:
        self.ids = ids
        return self


def _device(name: torch.device | str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise OcheError(f"there is no device {name!r}; use cpu, cuda, cuda:1 or mps") from None


@checked
class Resident(Split):
    """Decoded images in one uint8 tensor.

    It lies on the device if half of the free memory there holds it, else in main memory.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        rows: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """``images`` uint8 (M, C, H, W).

        ``rows`` (N,) int64: the images of this split (None: all). ``labels`` (N,): their labels.
        """
        if images.dim() != 4 or labels.dim() != 1:
            raise OcheError(
                f"images of shape {tuple(images.shape)} with labels of shape {tuple(labels.shape)} are no split; give images "
                "(N, C, H, W) and labels (N,)"
            )
        self.labels = labels.cpu()
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        self.device = images.device if device is None else _device(device)
        self._images = images
        self._rows = None if rows is None else rows.to(images.device)
        self._labels_beside_images = labels.to(images.device)

    def gather(self, index: Tensor) -> Batch:
        index = index.to(self._images.device)
        rows = index if self._rows is None else self._rows[index]
        x, y = self._images.index_select(0, rows), self._labels_beside_images[index]
        if x.device != self.device:  # the images are in main memory; pinned pages copy without a wait
            x, y = (t.pin_memory().to(self.device, non_blocking=True) for t in (x, y))
        return x, y

    def subset(self, index: Tensor) -> Resident:
        index = index.cpu()
        rows = index if self._rows is None else self._rows.cpu()[index]
        ids = None if self.ids is None else self.ids[index]
        return Resident(self._images, self.labels[index], rows=rows, device=self.device)._with_ids(ids)

    def relabelled(self, labels: Tensor) -> Resident:
        return Resident(self._images, labels, rows=self._rows, device=self.device)._with_ids(self.ids)

    def to(self, device: torch.device | str) -> Resident:
        device = torch.device(device)
        if device == self.device or (device.index is None and device.type == self.device.type):
            return self
        if device.type == "cuda" and self.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
            return Resident(self._images.cpu(), self.labels, rows=self._rows, device=device)._with_ids(self.ids)
        own = self._images if self._rows is None else self._images.index_select(0, self._rows)
        return Resident(own.to(device), self.labels)._with_ids(self.ids)

    def walk(self, order: Tensor, batch: int) -> Iterator[Batch]:
        # One transfer of the whole order, instead of one for each batch.
        return super().walk(order.to(self._images.device), batch)

    def resized(self, size: tuple[int, int]) -> Resident:
        """Return the images scaled (bilinear, antialiased) to cover ``size`` (H, W) and cut to their centre."""
        if size == self.shape[1:]:
            return self
        c, h, w = self.shape
        images = torch.empty((len(self), c, *size), dtype=torch.uint8)
        # Floats take four times the memory, so the images are resized in pieces.
        piece = max(1, _FLOATS_AT_ONCE // (c * max(h * w, size[0] * size[1])))
        for k in range(0, len(self), piece):
            images[k : k + piece] = _cover(self.gather(torch.arange(k, min(k + piece, len(self))))[0], size)
        return Resident(images, self.labels, device=self.device)._with_ids(self.ids)


def _cover(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return uint8 images x (B, C, H, W) scaled to cover ``size`` and cut to their centre."""
    (h, w), (oh, ow) = x.shape[2:], size
    scale = max(oh / h, ow / w)
    full = (max(oh, round(h * scale)), max(ow, round(w * scale)))
    x = F.interpolate(x.float(), full, mode="bilinear", antialias=True).round().clamp(0, 255).to(torch.uint8)
    top, left = (full[0] - oh) // 2, (full[1] - ow) // 2
    return x[:, :, top : top + oh, left : left + ow].contiguous()


@checked
@dataclass(frozen=True)
class Dataset:
    """Training and test images, with the facts that a run needs.

    Raises `OcheError` unless there are one mean and one deviation per channel.
    """

    name: str
    train: Split
    test: Split | None
    """None only if there is no published test part and ``holdout`` is 0"""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """per channel, of the training part, in [0, 1] units"""
    std: tuple[float, ...]
    augment: Augment
    """the default augmentation of this set"""
    note: str = ""
    """one line for reports, beside accuracies; may be empty"""
    manifest: Manifest | None = None
    """the images and their parts, as a run records them; None if the images have no ids"""
    first_half: Tensor | None = None
    """(N,) bool: the training images in the first half of a search, where a run recorded the halves of ``manifest``"""
    changes: str = ""
    """one line: what is new, gone or changed since the run began whose parts these are; empty if nothing is"""
    pixels: PixelRange = EIGHT_BITS
    """the source values that became 0..255"""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise OcheError(
                f"{self.name}: {len(self.mean)} means and {len(self.std)} deviations for {self.channels} channels; "
                "give one of each per channel"
            )

    @property
    def channels(self) -> int:
        """C"""
        return self.train.shape[0]

    @property
    def image(self) -> tuple[int, int]:
        """(H, W)"""
        return self.train.shape[1], self.train.shape[2]

    def to(self, device: torch.device | str) -> Dataset:
        """Return the same set, with batches gathered on ``device``."""
        return replace(self, train=self.train.to(device), test=None if self.test is None else self.test.to(device))


def channel_moments(
    split: Split, batch: int = 1024, advance: Callable[[int], None] = lambda n: None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and (population) standard deviation of each channel in [0, 1] units, from exact integer sums.

    ``advance(n)`` is called for every ``n`` images read.
    """
    c, h, w = split.shape
    sums = torch.zeros(2, c, dtype=torch.int64, device=split.device)
    for x, _ in split.walk(torch.arange(len(split)), batch):
        x = x.to(torch.int32)
        sums += torch.stack([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))])
        advance(len(x))
    mean, square = (sums.double() / (len(split) * h * w)).cpu()
    std = (
        (square - mean**2).clamp_min(1.0).sqrt()
    )  # at least one grey level: a constant channel must not divide by zero
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
