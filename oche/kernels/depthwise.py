"""Depthwise convolution on CPUs, with gradients by the kernels that are fast there.

In float32 torch calls oneDNN, whose vectorised depthwise kernels compute every forward pass, but gradients of weights
only for kernels at most 3 wide without dilation. The others (5×5 and dilated ones in the DARTS space) use general
kernels that take ten times as long and more. Therefore:

- the gradient of the input, at stride 1, is a forward pass with the flipped kernel;
- the weight gradient of a wider kernel is put together from kernels 3 wide on shifted inputs;
- dilation by 2 along a row disappears if two neighbouring pixels count as one pixel of twice the channels, which is the same
  memory in channels_last; along columns, the rows in between are computed and dropped;
- a convolution whose stride equals its dilation is a dense one on every second pixel.

All of it consists of differentiable operations, so second derivatives are exact.

Shapes: B images, C channels, H × W pixels, kernel k × k, odd; padding keeps the size at stride 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.kernels.batchnorm import NHWC, pair_pixels


def supports(conv: nn.Conv2d) -> bool:
    """Whether `depthwise` can replace ``conv``."""
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
    """Convolve x (B, C, H, W) with weight (C, 1, k, k) to (B, C, ⌈H/stride⌉, ⌈W/stride⌉).

    A dilated convolution needs stride 1. For stride = dilation = d, call it on ``x[:, :, ::d, ::d]`` without
    dilation.
    """
    if dilation == 1 and weight.shape[3] == 3:  # torch's own gradients are fast here
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
                g_x = _torch_gradient(g, x, weight, stride, (pad, pad), 0)
        if ctx.needs_input_grad[1]:
            g_w = (
                weight_gradient(x, g, weight.shape[3], stride)
                if dilation == 1
                else _dilated_weight_gradient(x, g, weight.shape[3])
            )
        return g_x, g_w, None, None


def _torch_gradient(g: Tensor, x: Tensor, weight: Tensor, stride: int, pad: tuple[int, int], which: int) -> Tensor:
    """Return torch's own gradient of the input (``which`` 0) or of the weight (1) of a depthwise convolution."""
    mask = [which == 0, which == 1, False]
    found = torch.ops.aten.convolution_backward(
        g, x, weight, None, [stride] * 2, list(pad), [1, 1], False, [0, 0], len(weight), mask
    )
    return found[which]


def weight_gradient(x: Tensor, g: Tensor, kw: int, stride: int = 1, kh: int | None = None) -> Tensor:
    """Return the gradient (C, 1, kh, kw) of the weight for input x and output gradient g. By default kh = kw."""
    kh, reach = kh or kw, kw // 2
    rows = kh // 2
    if x.shape[2] < kh:  # implicit padding of a map lower than the kernel selects slow kernels
        x, rows = F.pad(x, (0, 0, rows, rows)), 0
    like, parts, have = x.new_empty(x.shape[1], 1, kh, min(kw, 3)), [], 0
    for centre in [*range(1, kw - 2, 3), kw - 2]:  # columns centre-1 .. centre+1 of the kernel
        shift = centre - reach
        source, columns = (x, 1) if shift == 0 else (F.pad(x, (1 - shift, 1 + shift)), 0)
        part = _torch_gradient(g, source, like, stride, (rows, columns), 1)
        parts.append(part[..., have - centre + 1 :])
        have = centre + 2
    return parts[0] if len(parts) == 1 else torch.cat(parts, 3)


def _dilated_weight_gradient(x: Tensor, g: Tensor, k: int) -> Tensor:
    """Return `weight_gradient` for dilation 2."""
    tall = weight_gradient(_pair_pixels(x), _pair_pixels(g), k, kh=2 * k - 1)
    return tall[:, :, ::2].unflatten(0, (2, -1)).sum(0)


def _pair_pixels(x: Tensor) -> Tensor:
    """Apply `pair_pixels` after padding an odd width by one zero."""
    return pair_pixels(F.pad(x, (0, 1)) if x.shape[3] % 2 else x)
