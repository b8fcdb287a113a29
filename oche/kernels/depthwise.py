"""Depthwise convolution on a CPU, its gradients by the kernels that are fast there.

In float32 torch hands convolutions to oneDNN, whose vectorised depthwise kernels do forward passes of every kind, but
gradients of weights only for windows at most 3 wide that are not dilated; the rest (the 5×5 and the dilated ones of the
DARTS space) goes to general kernels that take ten times as long and more. So here

- the gradient of the input, at stride 1, is the forward pass with the kernel turned round;
- the gradient of a wider window is put together of windows 3 wide on the shifted input;
- dilation by 2 along a row is none where two neighbouring pixels are called one pixel of twice the channels, which in
  channels_last memory is the same memory; along columns the rows between are computed too and dropped;
- a convolution whose stride is its dilation is a dense one on every second pixel.

All of it is made of differentiable operations, so second derivatives are exact.

Shapes: B images, C channels, H × W pixels, kernel k × k, odd; padding keeps the size at stride 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.kernels.batchnorm import NHWC, pairs


def fits(conv: nn.Conv2d) -> bool:
    """Whether `depthwise` does what ``conv`` does."""
    k, c, d, s = conv.kernel_size[0], conv.in_channels, conv.dilation[0], conv.stride[0]
    return (
        conv.groups == conv.out_channels == c > 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
        and k > 1
        and k % 2 == 1
        and conv.kernel_size == (k, k)
        and conv.stride == (s, s)
        and conv.dilation == (d, d)
        and conv.padding == (d * (k - 1) // 2,) * 2
        and (d == 1 or s == d or (s == 1 and d == 2))
    )


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """x (B, C, H, W) with weight (C, 1, k, k) → (B, C, ⌈H/stride⌉, ⌈W/stride⌉).

    A dilated convolution needs stride 1; one of stride d = dilation is `depthwise` of ``x[:, :, ::d, ::d]``.
    """
    if dilation == 1 and weight.shape[3] == 3:  # torch's own gradients are fast
        return F.conv2d(x, weight, None, stride, 1, 1, len(weight))
    out: Tensor = Depthwise.apply(x, weight, stride, dilation)  # pyright: ignore[reportAssignmentType]
    return out


class Depthwise(torch.autograd.Function):
    """See `depthwise`."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.by = stride, dilation
        return F.conv2d(x, weight, None, stride, dilation * (weight.shape[3] // 2), dilation, len(weight))

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        x, weight = ctx.saved_tensors
        stride, dilation = ctx.by
        g = gradients[0].contiguous(memory_format=NHWC)
        pad = dilation * (weight.shape[3] // 2)
        g_x = g_w = None
        if ctx.needs_input_grad[0]:
            if stride == 1:
                g_x = F.conv2d(g, weight.flip(2, 3), None, 1, pad, dilation, len(weight))
            else:
                g_x = _backward(g, x, weight, stride, (pad, pad), 0)
        if ctx.needs_input_grad[1]:
            g_w = by_weight(x, g, weight.shape[3], stride) if dilation == 1 else _dilated(x, g, weight.shape[3])
        return g_x, g_w, None, None


def _backward(g: Tensor, x: Tensor, weight: Tensor, stride: int, pad: tuple[int, int], which: int) -> Tensor:
    """Torch's own gradient of the input (``which`` 0) or the weight (1) of a depthwise convolution."""
    mask = [which == 0, which == 1, False]
    found = torch.ops.aten.convolution_backward(
        g, x, weight, None, [stride] * 2, list(pad), [1, 1], False, [0, 0], len(weight), mask
    )
    return found[which]


def by_weight(x: Tensor, g: Tensor, kw: int, stride: int = 1, kh: int | None = None) -> Tensor:
    """(C, 1, kh, kw) the gradient of the weight at input x when that of the output is g; kh is kw unless given."""
    kh, reach = kh or kw, kw // 2
    rows = kh // 2
    if x.shape[2] < kh:  # implicit padding of a map lower than the kernel would leave the fast kernels
        x, rows = F.pad(x, (0, 0, rows, rows)), 0
    like, parts, have = x.new_empty(x.shape[1], 1, kh, min(kw, 3)), [], 0
    for centre in [*range(1, kw - 2, 3), kw - 2]:  # columns centre-1 .. centre+1 of the kernel
        shift = centre - reach
        seen, columns = (x, 1) if shift == 0 else (F.pad(x, (1 - shift, 1 + shift)), 0)
        part = _backward(g, seen, like, stride, (rows, columns), 1)
        parts.append(part[..., have - centre + 1 :])
        have = centre + 2
    return parts[0] if len(parts) == 1 else torch.cat(parts, 3)


def _dilated(x: Tensor, g: Tensor, k: int) -> Tensor:
    """`by_weight` for dilation 2."""
    tall = by_weight(_pairs(x), _pairs(g), k, kh=2 * k - 1)
    return tall[:, :, ::2].unflatten(0, (2, -1)).sum(0)


def _pairs(x: Tensor) -> Tensor:
    """`pairs`, an odd row made even by zeros."""
    return pairs(F.pad(x, (0, 1)) if x.shape[3] % 2 else x)
