"""Compute loss and accuracy of a network on one part of a data set.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.metrics import Meter
from oche.data import Dataset, Split, batches, prepare
from oche.devices.collectives import local_statistics
from oche.devices.engine import Engine
from oche.training.losses import frozen_statistics

NO_INDICES = torch.empty(0, dtype=torch.int64)


def evaluate(
    net: nn.Module,
    split: Split,
    data: Dataset,
    engine: Engine,
    batch: int = 256,
    forward: Callable[[Tensor], Tensor] | None = None,
    by_batch: bool = False,
    meter: Meter | None = None,
) -> Meter:
    """Return a meter with loss and accuracy of ``net`` over all of ``split``, without augmentation.

    ``forward`` maps prepared images (B, C, H, W) to logits (B, classes); by default it is ``net`` itself.
    ``by_batch``: BatchNorms normalise by the statistics of each batch. That is needed for a part of a supernet,
    because running statistics belong to the whole supernet. ``meter``: the meter to add to, instead of a new one.

    Several processes take batches in turn and add up their results. Each batch is one that a single process would
    see.
    """
    meter, before, processes = meter or Meter(engine.device), net.training, engine.processes
    if processes.is_distributed:
        processes.broadcast_statistics(net)
        turns = torch.arange(len(split)).split(batch)[processes.rank :: processes.world_size]
        split = split.subset(torch.cat(turns or [NO_INDICES]))
    net.train(by_batch)
    with torch.no_grad(), frozen_statistics(net), local_statistics(net):
        for images, labels in batches(split, batch, seed=0, epoch=0, shuffle=False, drop_last=False):
            logits = (forward or net)(engine.images(prepare(images, data.mean, data.std, None, None)))
            labels = labels.to(logits.device)
            meter.add(logits, labels, F.cross_entropy(logits, labels))
    net.train(before)
    processes.all_reduce(meter.sums)
    return meter
