"""What reaches a node: candidates normalised, weighted and summed, without keeping any normalised one.

    out = Σ_k c_k t_k + Σ_m [v_m (z_m − μ_m) / σ_m + b_m]

with μ_m, σ_m the batch statistics of z_m per channel. Kept for the backward are the t_k and z_m themselves, which their
makers keep anyway, and numbers per channel. It is made of differentiable operations, so second derivatives are exact.

Shapes: B images, C channels, H × W pixels, K plain maps, M normalised ones; maps in channels_last memory.
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
    """weight · map, or weight · norm(map): a map (B, C, H, W), a number (), a BatchNorm that normalises by the batch."""

    map: Tensor
    weight: Tensor
    norm: Norm | None = None


class Running(NamedTuple):
    """What a forward of a BatchNorm moves: mean and variance (C,), and by how much. None where it moves nothing."""

    mean: Tensor | None
    var: Tensor | None
    momentum: float


def running(norm: Norm) -> Running:
    """The statistics that ``norm`` moves in its forward; its count of batches moves here and now."""
    if not norm.track_running_stats or norm.running_mean is None:
        return Running(None, None, 0.0)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = 1.0 / float(norm.num_batches_tracked or 1) if norm.momentum is None else norm.momentum
    return Running(norm.running_mean, norm.running_var, momentum)


class Statistics(NamedTuple):
    """A map normalised by the batch, and the mean and unbiased variance (C,) of that batch."""

    map: Tensor
    mean: Tensor
    var: Tensor


def normalise(x: Tensor, eps: float) -> Statistics:
    """(x − μ) / σ, once for all BatchNorms without affine that see x (B, C, H, W)."""
    mean, var = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    return Statistics(F.batch_norm(x, mean, var, training=True, momentum=1.0, eps=eps), mean, var)


def move(norm: Norm, found: Statistics) -> None:
    """Moves the running statistics of ``norm`` as its own forward would."""
    now = running(norm)
    if now.mean is not None and now.var is not None:
        with torch.no_grad():
            now.mean.lerp_(found.mean, now.momentum)
            now.var.lerp_(found.var, now.momentum)


def combine(terms: Sequence[Term]) -> Tensor:
    """The sum of at least one term, (B, C, H, W)."""
    plain = [t for t in terms if t.norm is None]
    normed = [(t, t.norm) for t in terms if t.norm is not None]
    if normed:  # as a BatchNorm refuses it
        F._verify_batch_size(list(normed[0][0].map.shape))  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    scales = torch.stack([t.weight for t in plain]) if plain else None
    v, b = _affine(normed)
    how = [(running(norm), norm.eps) for _, norm in normed]
    maps = [t.map.contiguous(memory_format=NHWC) for t in [*plain, *(t for t, _ in normed)]]
    out: Tensor = Combine.apply(how, scales, v, b, *maps)  # pyright: ignore[reportAssignmentType]
    return out


def _affine(normed: Sequence[tuple[Term, Norm]]) -> tuple[Tensor | None, Tensor | None]:
    """(M, C) scale and shift of every normalised map, contiguous; no shift where no BatchNorm has one."""
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


class Combine(torch.autograd.Function):
    """See `combine`. Inputs: what the BatchNorms move and their eps; c (K,), v and b (M, C) or None; K + M maps."""

    @staticmethod
    def forward(ctx, how, c: Tensor | None, v: Tensor | None, b: Tensor | None, *maps: Tensor) -> Tensor:
        k = len(maps) - len(how)
        total, kept = None, []
        for m, (now, eps) in enumerate(how):
            assert v is not None
            shift = None if b is None else b[m]
            out, mean, inv = torch.native_batch_norm(
                maps[k + m], v[m], shift, now.mean, now.var, True, now.momentum, eps
            )
            kept += [mean, inv]
            total = out if total is None else total.add_(out)
        for i in range(k):
            assert c is not None
            total = maps[i] * c[i] if total is None else total.addcmul_(maps[i], c[i])
        ctx.save_for_backward(c, v, *maps, *kept)
        ctx.k, ctx.eps = k, [eps for _, eps in how]
        assert total is not None
        return total

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        c, v, *rest = ctx.saved_tensors
        g, (maps, kept) = gradients[0].contiguous(memory_format=NHWC), _split(rest, ctx.k + len(ctx.eps))
        need_c, need_v, need_b, *need = ctx.needs_input_grad[1:]
        g_maps, g_c, g_v, g_b = [], [], [], []
        for i in range(ctx.k):
            g_maps.append(g * c[i] if need[i] else None)
            if need_c:
                g_c.append(torch.dot(_flat(g), _flat(maps[i])))
        for m, eps in enumerate(ctx.eps):
            z, mean, inv = maps[ctx.k + m], kept[2 * m], kept[2 * m + 1]
            mask = [need[ctx.k + m], need_v, need_b]
            found = torch.ops.aten.native_batch_norm_backward(g, z, v[m], None, None, mean, inv, True, eps, mask)
            g_maps.append(found[0] if mask[0] else None)
            g_v.append(found[1])
            g_b.append(found[2])
        stack = [torch.stack(x) if want and x else None for want, x in ((need_c, g_c), (need_v, g_v), (need_b, g_b))]
        return None, *stack, *g_maps


def _split(tensors: Sequence[Tensor], n: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return tensors[:n], tensors[n:]


def _flat(x: Tensor) -> Tensor:
    """A view (B·C·H·W,) of a map in channels_last memory."""
    return x.permute(0, 2, 3, 1).reshape(-1)
