"""The module that is exported, and the measurements of the exported model against the trained network.

The module is the network alone, with its BatchNorms fused, or the network between normalisation of the images and a softmax.

Shapes: B images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from oche.cost.module_cost import time_function
from oche.data import Split, batches
from oche.deploy.classifier import Classifier
from oche.networks.fuse_batchnorm import fuse_batchnorm

BATCH = 64  # images in one batch
Input = Literal["normalised", "uint8-nchw", "uint8-nhwc"]
LoadedModel = Callable[[Tensor], Tensor]  # an exported model that was read back: input → output


class Uint8Input(nn.Module):
    """Maps uint8 images (B, C, H, W), or (B, H, W, C) with ``channels_last``, to probabilities (B, K)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], channels_last: bool) -> None:
        super().__init__()
        self.net, self.channels_last = net, channels_last
        m, s = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
        self.register_buffer("shift", (-m / s).float())
        self.register_buffer("scale", (1 / (255 * s)).float())

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2) if self.channels_last else images
        return self.net(x.to(torch.float32) * self.scale + self.shift).softmax(1)


@dataclass(frozen=True)
class ExportGraph:
    """The module to export, the inputs that it takes, and the trained network that it must agree with."""

    classifier: Classifier
    input: Input
    size: tuple[int, int]
    """(H, W) of the images that it takes"""
    module: nn.Module

    @classmethod
    def of(cls, classifier: Classifier, input: Input, size: tuple[int, int], fold: bool) -> ExportGraph:
        """Build the module from a copy of ``classifier``; ``fold``: whether BatchNorms are fused into convolutions."""
        net = fuse_batchnorm(classifier.net) if fold else copy.deepcopy(classifier.net)
        net = net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        if input != "normalised":
            net = Uint8Input(net, classifier.mean, classifier.std, input == "uint8-nhwc").eval()
        return cls(classifier, input, size, net)

    @property
    def output(self) -> str:
        """Name of the output."""
        return "logits" if self.input == "normalised" else "probabilities"

    @property
    def layout(self) -> tuple[str, tuple[int, ...]]:
        """Type of the input, and its shape without the batch."""
        c, (h, w) = self.classifier.about.channels, self.size
        return (
            "float32" if self.input == "normalised" else "uint8",
            (h, w, c) if self.input == "uint8-nhwc" else (c, h, w),
        )

    def feed(self, images: Tensor) -> Tensor:
        """Convert uint8 ``images`` (B, C, H, W) to the input of the module."""
        if self.input == "normalised":
            return self.classifier.prepare(images).contiguous()
        return (images.permute(0, 2, 3, 1) if self.input == "uint8-nhwc" else images).contiguous()

    @torch.no_grad()
    def expected(self, images: Tensor) -> Tensor:
        """Return the output of the trained network itself, without fusion, for uint8 ``images`` (B, C, H, W)."""
        if self.input == "normalised":
            return self.classifier(self.classifier.prepare(images))
        return self.classifier.probabilities(images)


# --- measurements of the exported model ---------------------------------------------------------------------------------


@torch.no_grad()
def largest_difference(graph: ExportGraph, model: LoadedModel, images: Tensor) -> float:
    """Return the largest difference of any output to the trained network's on ``images`` (B, C, H, W).

    The images go through the model in batches of several sizes.
    """
    pieces = [images[:1], *images[1:].split(BATCH)] if len(images) > 1 else [images]
    differences = [(model(graph.feed(piece)) - graph.expected(piece)).abs().max() for piece in pieces]
    return torch.stack(differences).max().item()


@torch.no_grad()
def measure_accuracy(graph: ExportGraph, model: LoadedModel, split: Split) -> float:
    """Return the share of images of ``split`` that ``model`` classifies right."""
    right = 0
    for images, labels in batches(split, BATCH, seed=0, epoch=0, shuffle=False, drop_last=False):
        right += int((model(graph.feed(images)).argmax(1) == labels).sum())
    return right / len(split)


@torch.no_grad()
def measure_latency(model: LoadedModel, graph: ExportGraph, images: Tensor) -> dict[int, float]:
    """Return batch size → median time of ``model`` in milliseconds, for batches of 1 and 32 images."""
    times = {}
    for batch in (1, 32):
        x = graph.feed(images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch])
        times[batch] = time_function(lambda x=x: model(x)).median
    return times
