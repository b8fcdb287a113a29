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

from oche.core.errors import OcheError
from oche.cost.module_cost import time_function
from oche.data import Split, batches
from oche.data.pixel_range import AS_BEFORE, PixelRange
from oche.deploy.classifier import Classifier
from oche.networks.fuse_batchnorm import fuse_batchnorm

BATCH = 64  # images in one batch
Input = Literal["normalised", "uint8-nchw", "uint8-nhwc", "values-nchw", "values-nhwc"]
LoadedModel = Callable[[Tensor], Tensor]  # an exported model that was read back: input → output


class PixelInput(nn.Module):
    """Maps images (B, C, H, W), or (B, H, W, C) with ``channels_last``, to probabilities (B, K).

    They are uint8, or float32 values that ``pixels`` maps to 0..255, in float64 as `PixelRange.levels` does.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        net: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        channels_last: bool,
        pixels: PixelRange | None,
    ) -> None:
        super().__init__()
        self.net, self.channels_last, self.pixels = net, channels_last, pixels
        m, s = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
        self.register_buffer("shift", (-m / s).float())
        self.register_buffer("scale", (1 / (255 * s)).float())

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2) if self.channels_last else images
        if self.pixels is not None:
            low, high = self.pixels.low, self.pixels.high
            x = ((x.to(torch.float64) - low) * (255 / (high - low))).round().clamp(0, 255)
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
        """Build the module from a copy of ``classifier``; ``fold``: whether BatchNorms are fused into convolutions.

        Raises `OcheError` for a kind of input that the pixels of ``classifier`` do not have.
        """
        check_input(classifier, input)
        net = fuse_batchnorm(classifier.net) if fold else copy.deepcopy(classifier.net)
        net = net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        if input != "normalised":
            pixels = classifier.pixels if input.startswith("values") else None
            net = PixelInput(net, classifier.mean, classifier.std, input.endswith("nhwc"), pixels).eval()
        return cls(classifier, input, size, net)

    @property
    def output(self) -> str:
        """Name of the output."""
        return "logits" if self.input == "normalised" else "probabilities"

    @property
    def layout(self) -> tuple[str, tuple[int, ...]]:
        """Type of the input, and its shape without the batch."""
        c, (h, w) = self.classifier.about.channels, self.size
        kind = "uint8" if self.input.startswith("uint8") else "float32"
        return kind, (h, w, c) if self.input.endswith("nhwc") else (c, h, w)

    def feed(self, images: Tensor) -> Tensor:
        """Convert uint8 ``images`` (B, C, H, W) to the input of the module."""
        if self.input == "normalised":
            return self.classifier.normalise(images).contiguous()
        images = self.classifier.pixels.values(images) if self.input.startswith("values") else images
        return (images.permute(0, 2, 3, 1) if self.input.endswith("nhwc") else images).contiguous()

    @torch.no_grad()
    def expected(self, images: Tensor) -> Tensor:
        """Return the output of the trained network itself, without fusion, for uint8 ``images`` (B, C, H, W)."""
        if self.input == "normalised":
            return self.classifier(self.classifier.normalise(images))
        return self.classifier.probabilities_of(images)


def check_input(classifier: Classifier, input: Input) -> None:
    """Raise `OcheError` where the pixels of ``classifier`` cannot be given as ``input``."""
    pixels, axes = classifier.pixels, input.rpartition("-")[2]
    if input.startswith("uint8") and not pixels.usual and pixels != AS_BEFORE:
        raise OcheError(
            f"--input {input} takes 0..255, and the network was trained on {pixels.kind} in {pixels}; write --input "
            f"values-{axes}, which takes those as floats"
        )
    if input.startswith("values") and classifier.about.pixels is None:
        raise OcheError(
            f"--input {input} takes the pixel values of the training, which this run, of an earlier version, did not record; "
            f"write --input uint8-{axes}"
        )


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
