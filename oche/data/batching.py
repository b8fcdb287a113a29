"""Batches in an order that depends on (seed, epoch) alone, and the two parts of a split for a bilevel search."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.data.dataset import Split


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


def steps_per_epoch(n: int, batch: int) -> int:
    """Return the number of batches in an epoch of ``n`` images: ⌊n / batch⌋, at least 1.

    The incomplete last batch is dropped. The order changes every epoch, so no image is lost for good. (Deviation 1 from
    the code of DARTS, which trains on it.) Fewer images than ``batch`` make one batch of all of them.
    """
    return max(1, n // batch)


def halves(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split ``split`` at random into two parts, the first with ``fraction`` of the images (rounded). They share its images.

    Raises `OcheError` if a part would be empty.
    """
    n = len(split)
    first = round(fraction * n)
    if not 0 < first < n:
        raise OcheError(
            f"fraction={fraction} of {n} images leaves one part empty; use a fraction between {1 / n:.3g} and 1"
        )
    order = torch.randperm(n, generator=generator(seed, "halves"))
    return split.subset(order[:first].sort().values), split.subset(order[first:].sort().values)
