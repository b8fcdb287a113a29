"""The input of a node as one weighted sum: BatchNorm, candidate weight and sum in one function that keeps no
normalised map.

    out = Σ_k c_k t_k + Σ_m [v_m (z_m − μ_m) / σ_m + b_m]

μ_m and σ_m are the batch statistics of z_m per channel. The backward keeps t_k and z_m, which the operations in front
keep anyway, and a few numbers per channel. The backward consists of differentiable operations, so second derivatives
are exact.

Shapes: B images, C channels, H × W pixels, K plain maps, M normalised maps. Maps are in channels_last memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NHWC = torch.channels_last
Norm = nn.BatchNorm2d


class Term(NamedTuple):
    """One summand: weight · map, or weight · norm(map).

    ``map`` (B, C, H, W), ``weight`` (), and ``norm`` a BatchNorm that normalises by the batch.
    """

    map: Tensor
    weight: Tensor
    norm: Norm | None = None


class BatchStatistics(NamedTuple):
    """Statistics of a batch: mean, biased variance and unbiased variance, each (C,) or (M, C)."""

    mean: Tensor
    var: Tensor
    unbiased: Tensor


def batch_statistics(maps: Sequence[Tensor]) -> BatchStatistics:
    """Return the statistics (M, C) of M maps (B, C, H, W), outside the autograd graph."""
    (_, c, _, width), n = maps[0].shape, maps[0].numel() // maps[0].shape[1]
    paired = c <= 16 and width % 2 == 0 and maps[0].device.type == "cpu"  # CPU kernels are slow for so few channels
    parts = [torch.batch_norm_update_stats(pair_pixels(x) if paired else x, None, None, 0.0) for x in maps]
    mean, var = (torch.stack(x).view(len(maps), -1, c) for x in zip(*parts, strict=True))
    # The variance of both halves is the mean of their variances plus the variance of their means.
    mean, var = mean.mean(1), var.mean(1) + mean.var(1, correction=0)
    return BatchStatistics(mean, var, var * (n / max(n - 1, 1)))


def pair_pixels(x: Tensor) -> Tensor:
    """View (B, C, H, W) as (B, 2C, H, W / 2): two neighbouring pixels of a row become one. In channels_last this
    copies nothing.
    """
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, h, w // 2, 2 * c).permute(0, 3, 1, 2)


def update_running_statistics(norm: Norm, found: BatchStatistics) -> None:
    """Update the running statistics of ``norm`` as its own forward would."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = 1.0 / float(norm.num_batches_tracked or 1) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(found.mean, momentum)
    norm.running_var.lerp_(found.unbiased, momentum)


def normalise(x: Tensor, eps: float) -> tuple[Tensor, BatchStatistics]:
    """Return (x − μ) / σ for x (B, C, H, W), and the statistics. One result serves all BatchNorms without affine that
    read x.
    """
    mean, var = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    out = F.batch_norm(x, mean, var, training=True, momentum=1.0, eps=eps)
    return out, BatchStatistics(mean, var, var)


def weighted_sum(terms: Sequence[Term]) -> Tensor:
    """Return the sum (B, C, H, W) of at least one term."""
    plain = [t for t in terms if t.norm is None]
    normed = [(t, t.norm) for t in terms if t.norm is not None]
    if normed:  # refuse single values as a BatchNorm does
        F._verify_batch_size(list(normed[0][0].map.shape))  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    scales = torch.stack([t.weight for t in plain]) if plain else None
    v, b = _affine(normed)
    norms = [norm for _, norm in normed]
    maps = [t.map.contiguous(memory_format=NHWC) for t in [*plain, *(t for t, _ in normed)]]
    out: Tensor = WeightedSum.apply(norms, scales, v, b, *maps)  # pyright: ignore[reportAssignmentType]
    return out


def _affine(normed: Sequence[tuple[Term, Norm]]) -> tuple[Tensor | None, Tensor | None]:
    """Return scale and shift (M, C) of every normalised map, contiguous. The shift is None if no BatchNorm has one."""
    if not normed:
        return None, None
    c = normed[0][0].map.shape[1]
    v = torch.stack([t.weight for t, _ in normed])[:, None].expand(-1, c)
    if all(norm.weight is None for _, norm in normed):
        return v.contiguous(), None
    one, zero = v.new_ones(c), v.new_zeros(c)
    scale = torch.stack([one if norm.weight is None else norm.weight for _, norm in normed])
    shift = torch.stack([zero if norm.bias is None else norm.bias for _, norm in normed])
    return v * scale, v * shift


class WeightedSum(torch.autograd.Function):
    """See `weighted_sum`. Inputs: M BatchNorms; c (K,), v and b (M, C), each or None; K + M maps."""

    @staticmethod
    def forward(ctx, norms: list[Norm], c: Tensor | None, v: Tensor | None, b: Tensor | None, *maps: Tensor) -> Tensor:
        plain, normed = maps[: len(maps) - len(norms)], maps[len(maps) - len(norms) :]
        total, kept = None, ()
        if v is not None:
            found = batch_statistics(normed)
            for norm, *row in zip(norms, *found, strict=True):
                update_running_statistics(norm, BatchStatistics(*row))
            every = {norm.eps for norm in norms}  # usually one number, which a CUDA graph can keep
            eps = every.pop() if len(every) == 1 else v.new_tensor([norm.eps for norm in norms])[:, None]
            inv = (found.var + eps).rsqrt()
            total, kept = _sum(normed, v * inv, found.mean, b), (found.mean, inv)
        for x, scale in zip(plain, () if c is None else c.unbind(), strict=True):
            total = x * scale if total is None else total.addcmul_(x, scale)
        ctx.save_for_backward(c, v, *kept, *maps)
        ctx.eps = [norm.eps for norm in norms]
        assert total is not None
        return total

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        c, v, *maps = ctx.saved_tensors
        _, need_c, need_v, need_b, *need = ctx.needs_input_grad
        g, g_c, g_v, g_b, g_maps = gradients[0].contiguous(memory_format=NHWC), [], [], [], []
        if v is not None:
            mean, inv, *maps = maps
        for scale in () if c is None else c.unbind():
            x = maps[len(g_maps)]
            g_maps.append(g * scale if need[len(g_maps)] else None)
            if need_c:
                g_c.append(torch.dot(_flat(g), _flat(x)))
        for eps, *row in zip(ctx.eps, *(() if v is None else (v.unbind(), mean.unbind(), inv.unbind())), strict=True):
            z, mask = maps[len(g_maps)], [need[len(g_maps)], need_v, need_b]
            g_z, *g_affine = _backward(g, z, row[0], None, None, *row[1:], True, eps, mask)
            g_maps.append(g_z if mask[0] else None)
            g_v.append(g_affine[0])
            g_b.append(g_affine[1])
        stack = [torch.stack(x) if want and x else None for want, x in ((need_c, g_c), (need_v, g_v), (need_b, g_b))]
        return None, *stack, *g_maps


_backward = torch.ops.aten.native_batch_norm_backward


def _sum(maps: Sequence[Tensor], scales: Tensor, means: Tensor, shifts: Tensor | None) -> Tensor:
    """Return Σ scale · (map − mean) + shift as a new tensor; scales, means and shifts are (M, C)."""
    shift = -(scales * means).sum(0) if shifts is None else (shifts - scales * means).sum(0)
    (first, *rest), (a, *others) = maps, scales[:, :, None, None].unbind()
    total = torch.addcmul(shift[:, None, None], first, a)
    for x, a in zip(rest, others, strict=True):
        total.addcmul_(x, a)
    return total


def _flat(x: Tensor) -> Tensor:
    """View a channels_last map as (B·C·H·W,)."""
    return x.permute(0, 2, 3, 1).reshape(-1)
