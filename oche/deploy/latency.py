"""What is measured of an exported model that was read back: how far it is from the trained network, how right, how quick.

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oche.cost.timer import timed
from oche.data import Split, batches
from oche.deploy.onnx_graph import Graph, Opened

BATCH = 64  # images at once


@torch.no_grad()
def difference(graph: Graph, opened: Opened, images: Tensor) -> float:
    """Largest difference of any output on ``images`` (B, C, H, W), in batches of several sizes."""
    pieces = [images[:1], *images[1:].split(BATCH)] if len(images) > 1 else [images]
    apart = [(opened(graph.feed(piece)) - graph.expected(piece)).abs().max() for piece in pieces]
    return torch.stack(apart).max().item()


@torch.no_grad()
def accuracy(graph: Graph, opened: Opened, split: Split) -> float:
    right = 0
    for images, labels in batches(split, BATCH, seed=0, epoch=0, shuffle=False, drop_last=False):
        right += int((opened(graph.feed(images)).argmax(1) == labels).sum())
    return right / len(split)


@torch.no_grad()
def latency(opened: Opened, graph: Graph, images: Tensor) -> dict[int, float]:
    """Batch size → milliseconds of ``opened``."""
    times = {}
    for batch in (1, 32):
        x = graph.feed(images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch])
        times[batch] = timed(lambda x=x: opened(x)).median
    return times
