"""Batches in an order that depends on (seed, epoch) alone, and the two parts of a split for a bilevel search."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from oche.core.arguments import checked
from oche.core.errors import OcheError, plural
from oche.core.seeds import derive_seed, generator
from oche.data.dataset import Dataset, Split
from oche.data.splits import keep_copies_together


@checked
def batches(
    split: Split,
    batch: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    shuffle: bool = True,
    drop_last: bool = True,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of (images uint8 (B, C, H, W), labels int64 (B,)) on the split's device.

    The order is a function of (``seed``, ``epoch``); ``shuffle=False`` keeps the order of the split. ``start`` skips that
    many batches without reading them. ``drop_last`` leaves out an incomplete last batch, unless it is the only one.

    Of ``world`` processes, the one with number ``rank`` gets every ``world``-th image of each batch, so B = batch /
    world. Together they get the batch that a single process would. (An incomplete batch may be shared unevenly.)

    Raises `OcheError` for impossible sizes and for a batch that is not a multiple of ``world``.
    """
    if batch < 1 or start < 0:
        raise OcheError(f"batch={batch}, start={start} make no batches; use batch >= 1 and start >= 0")
    if not 0 <= rank < world or batch % world:
        raise OcheError(
            f"batch={batch} cannot be shared by {world} processes (this is number {rank}); use a multiple of {world}"
        )
    n = len(split)
    order = torch.randperm(n, generator=generator(seed, "order", epoch)) if shuffle else torch.arange(n)
    if drop_last:
        order = order[: steps_per_epoch(n, batch) * batch]
    own_order, own_batch = order[rank::world], batch // world
    if start * own_batch < len(own_order):
        yield from split.walk(own_order[start * own_batch :], own_batch)


@checked
def steps_per_epoch(n: int, batch: int) -> int:
    """Return the number of batches in an epoch of ``n`` images: ⌊n / batch⌋, at least 1.

    The incomplete last batch is dropped. The order changes every epoch, so no image is lost for good. (Deviation 1 from
    the code of DARTS, which trains on it.) Fewer images than ``batch`` make one batch of all of them.
    """
    return max(1, n // batch)


@checked
def halves(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split ``split`` at random into two parts, the first with ``fraction`` of the images (rounded). They share its images.

    Copies of an image, known by their ids, go to the same part, that of the first copy.

    Raises `OcheError` if a part would be empty.
    """
    return _divided(split, _first_half(split, fraction, seed))


@checked
def training_halves(data: Dataset, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split the training images of ``data`` into the two parts of a search with ``fraction`` and the run's ``seed``.

    A search and a training of its network have the same parts. Where a run recorded its parts, these are they.
    """
    return _divided(data.train, first_half(data, fraction, seed))


def first_half(data: Dataset, fraction: float, seed: int) -> Tensor:
    """Return (N,) bool: the training images of ``data`` that are in the first part of `training_halves`."""
    recorded = None if data.manifest is None else data.manifest.halves
    if data.first_half is not None and recorded == (fraction, seed):
        return data.first_half
    return _first_half(data.train, fraction, derive_seed(seed, "halves"))


def _divided(split: Split, first: Tensor) -> tuple[Split, Split]:
    return split.subset(first.nonzero().flatten()), split.subset((~first).nonzero().flatten())


def _first_half(split: Split, fraction: float, seed: int) -> Tensor:
    n = len(split)
    first = round(fraction * n) if abs(fraction) <= 1 else -1
    if not 0 < first < n:
        raise OcheError(
            f"fraction={fraction} of {plural(n, 'image')} leaves one part empty; use a fraction between {1 / n:.3g} and 1"
        )
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[torch.randperm(n, generator=generator(seed, "halves"))[:first]] = True
    return keep_copies_together(chosen, split.labels, split.ids)
