"""Candidate operations of convolutional cells by their published names, and the registry to which users add their own.

An operation is built as ``build(channels, stride, affine) -> nn.Module``. It maps (B, C, H, W) to
(B, C, ceil(H / stride), ceil(W / stride)). ``affine`` says whether its BatchNorms learn scale and shift.

Sources: DARTS 1806.09055 §3.1.1; NASNet 1707.07012 for ``sep_conv_7x7`` and ``conv_7x1_1x7``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.arguments import checked
from oche.core.errors import OcheError, did_you_mean

Builder = Callable[[int, int, bool], nn.Module]  # channels, stride, affine


# --- the registry -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """A registered operation.

    ``normalised``: whether its output has gone through a normalisation. ``summary``: the first line of the builder's
    docstring.
    """

    name: str
    build: Builder
    normalised: bool
    summary: str


OPERATIONS: dict[str, Operation] = {}


@checked
def operation(name: str, *, normalised: bool = True) -> Callable[[Builder], Builder]:
    """Return a decorator that registers ``build(channels, stride, affine)`` as the candidate operation ``name``.

    ``build`` is a function or an ``nn.Module`` class. The first line of its docstring is the description in ``oche list
    operations``. After an operation with ``normalised=False`` a supernet adds a BatchNorm, as the published code does for
    pools, so that all candidates compare on one scale.

    Raises `OcheError` for a name that is taken or that cannot stand in a genotype.
    """

    def register(build: Builder) -> Builder:
        if not name.isidentifier():
            raise OcheError(f"operation name {name!r} cannot stand in a genotype; use letters, digits and '_'")
        if name in OPERATIONS:
            raise OcheError(f"an operation named {name!r} exists already; choose another name")
        summary = (build.__doc__ or "").strip().split("\n")[0]
        OPERATIONS[name] = Operation(name, build, normalised, summary)
        return build

    return register


@checked
def find_operation(name: str) -> Operation:
    """Return the registered operation ``name``. Raises `OcheError` with the nearest known name."""
    if name not in OPERATIONS:
        raise OcheError(
            f"unknown operation {name!r}{did_you_mean(name, [*OPERATIONS])}; known: {', '.join(OPERATIONS)}; "
            "register your own with oche.operation"
        )
    return OPERATIONS[name]


# --- building blocks --------------------------------------------------------------------------------------------------


class Zero(nn.Module):
    """No connection: zeros of the output's shape. It has no parameters and no state, so a supernet need not evaluate it."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros (B, C, ceil(H / stride), ceil(W / stride))."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Pointwise(nn.Conv2d):
    """A 1×1 convolution without bias that takes its stride by slicing the input.

    It computes the same as torch's strided 1×1 convolution. That one (torch 2.13, CPU, channels_last) writes beyond its
    memory in the backward pass and crashes the process, seen at stride 2 with 64 × 64 pixels and fewer than 16 channels.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, 1, bias=False)
        self.stride_by_slicing = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, c_out, ceil(H / stride), ceil(W / stride)) for x (B, c_in, H, W)."""
        return super().forward(
            x if self.stride_by_slicing == 1 else x[:, :, :: self.stride_by_slicing, :: self.stride_by_slicing]
        )


class FactorizedReduce(nn.Module):
    """Halve the map with two 1×1 convolutions of stride 2, the second shifted by one pixel, so that no pixel is ignored.

    Maps (B, c_in, H, W) to (B, c_out, ceil(H / 2), ceil(W / 2)): ReLU, both convolutions side by side, BatchNorm.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool = True) -> None:
        super().__init__()
        self.conv_1 = Pointwise(c_in, c_out // 2, 2)
        self.conv_2 = Pointwise(c_in, c_out - c_out // 2, 2)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, c_out, ceil(H / 2), ceil(W / 2)) for x (B, c_in, H, W)."""
        x = F.relu(x)
        h, w = x.shape[2:]
        # The shifted convolution has one pixel too few on an odd side, so a zero is appended. (Deviation 1 from the published
        # code, which fails there.)
        padded = F.pad(x, (0, w % 2, 0, h % 2)) if h % 2 or w % 2 else x
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(padded[:, :, 1:, 1:])], 1))


def relu_conv_bn(c_in: int, c_out: int, affine: bool = True) -> nn.Sequential:
    """Return ReLU, 1×1 convolution, BatchNorm: the preprocessing that brings a cell's input to the width of the cell."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, affine=affine))


def _depthwise_separable(channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    """Return ReLU, depthwise convolution, 1×1 convolution, BatchNorm."""
    pad = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, pad, dilation=dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


def _sep_conv(kernel: int) -> Builder:
    def build(channels: int, stride: int, affine: bool) -> nn.Module:
        twice = [_depthwise_separable(channels, kernel, s, 1, affine) for s in (stride, 1)]
        return nn.Sequential(*twice[0], *twice[1])

    build.__doc__ = f"depthwise-separable {kernel}x{kernel} convolution, applied twice"
    return build


def _dil_conv(kernel: int) -> Builder:
    def build(channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.Sequential(*_depthwise_separable(channels, kernel, stride, 2, affine))

    build.__doc__ = f"depthwise-separable {kernel}x{kernel} convolution with dilation 2"
    return build


# --- the operations ---------------------------------------------------------------------------------------------------


@operation("none")
def none(channels: int, stride: int, affine: bool) -> nn.Module:
    """no connection"""
    return Zero(stride)


@operation("max_pool_3x3", normalised=False)
def max_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """3x3 max pooling"""
    return nn.MaxPool2d(3, stride, 1)


@operation("avg_pool_3x3", normalised=False)
def avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """3x3 average pooling, padding not counted"""
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)


@operation("skip_connect")
def skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    """identity; where the map shrinks, two shifted 1x1 convolutions of stride 2"""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


operation("sep_conv_3x3")(_sep_conv(3))
operation("sep_conv_5x5")(_sep_conv(5))
operation("dil_conv_3x3")(_dil_conv(3))
operation("dil_conv_5x5")(_dil_conv(5))
operation("sep_conv_7x7")(_sep_conv(7))


@operation("conv_7x1_1x7")
def conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    """1x7 then 7x1 convolution (NASNet, AmoebaNet)"""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


# The candidates of two spaces, in their published orders. Logits have one column for each, in this order, so published
# logits can be loaded.
DARTS_CANDIDATES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
SEED_CANDIDATES = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "none",
)
