"""What is exported: the folded network alone, or with the images' normalisation before it and a softmax behind.

Shapes: B images, C channels, H × W pixels, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from oche.deploy.classifier import Classifier
from oche.networks.fuse_batchnorm import fuse_batchnorm

Input = Literal["normalised", "uint8-nchw", "uint8-nhwc"]


class FromBytes(nn.Module):
    """Maps uint8 images (B, C, H, W), or (B, H, W, C) where ``last``, to probabilities (B, K)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], last: bool) -> None:
        super().__init__()
        self.net, self.last = net, last
        m, s = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
        self.register_buffer("shift", (-m / s).float())
        self.register_buffer("scale", (1 / (255 * s)).float())

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2) if self.last else images
        return self.net(x.to(torch.float32) * self.scale + self.shift).softmax(1)


@dataclass(frozen=True)
class Graph:
    """A module to export, how images are fed to it, and the trained network that it must agree with."""

    classifier: Classifier
    input: Input
    size: tuple[int, int]
    """(H, W) of the images that it takes"""
    module: nn.Module

    @classmethod
    def of(cls, classifier: Classifier, input: Input, size: tuple[int, int], fold: bool) -> Graph:
        """The graph of ``classifier``, which stays as it is."""
        net = fuse_batchnorm(classifier.net) if fold else copy.deepcopy(classifier.net)
        net = net.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        if input != "normalised":
            net = FromBytes(net, classifier.mean, classifier.std, input == "uint8-nhwc").eval()
        return cls(classifier, input, size, net)

    @property
    def output(self) -> str:
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
        """The input for uint8 ``images`` (B, C, H, W)."""
        if self.input == "normalised":
            return self.classifier.prepare(images).contiguous()
        return (images.permute(0, 2, 3, 1) if self.input == "uint8-nhwc" else images).contiguous()

    @torch.no_grad()
    def expected(self, images: Tensor) -> Tensor:
        """What the trained network itself, unfolded, makes of uint8 ``images`` (B, C, H, W)."""
        if self.input == "normalised":
            return self.classifier(self.classifier.prepare(images))
        return self.classifier.probabilities(images)


Opened = Callable[[Tensor], Tensor]  # an exported model read back: input → output
