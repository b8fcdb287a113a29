"""Triton kernels that normalise, weigh and sum maps: batch statistics, linear combinations, and dot products for their gradients.

Maps are rows of channels, (1 or M, ..., C) contiguous; a map of length 1 is shared by all M members. Sums and statistics are in
float32 (float64 for float64), whatever the type of the maps. No atomics are used, so equal inputs give equal bits. Unmeasured: no
GPU was available. Tested in Triton's interpreter, and compiled for sm_90.

Shapes: M members (edges), N pixels of a map, C channels, S summands.
"""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 1024  # elements of one program's tile; a depthwise stage uses a quarter of it


def width(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of sums."""
    return torch.promote_types(dtype, torch.float32)


def tile(channels: int, share: int = 1) -> tuple[int, int]:
    """Return (rows, channels) of a program's tile, which has ``TILE`` / share elements."""
    wide = min(triton.next_power_of_2(channels), 64)
    return max(1, TILE // share // wide), wide


def accumulator(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


@triton.jit
def _moments(z, out, M, N, C, ACC: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr):
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    m = tl.program_id(1)
    here = (n < N)[:, None] & (c < C)[None, :]
    v = tl.load(z + m.to(tl.int64) * N * C + (n * C)[:, None] + c[None, :], mask=here, other=0.0).to(ACC)
    mean = tl.sum(v, 0) / tl.minimum(N - tl.program_id(0) * ROWS, ROWS)
    away = tl.where(here, v - mean[None, :], 0.0)
    at = (tl.program_id(0) * 2 * M + m) * C + c
    tl.store(out + at, mean, mask=c < C)
    tl.store(out + at + M * C, tl.sum(away * away, 0), mask=c < C)


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance (M, C) of z (M, ..., C): each tile is centred at its own mean, then tiles are
    combined.
    """
    members, c = len(z), z.shape[-1]
    n = z[0].numel() // c
    rows, wide = tile(c)
    blocks = triton.cdiv(n, rows)
    parts = torch.empty((blocks, 2, members, c), dtype=width(z.dtype), device=z.device)
    grid = (blocks, members, triton.cdiv(c, wide))
    _moments[grid](z, parts, members, n, c, ACC=accumulator(z.dtype), ROWS=rows, WIDE=wide)
    means, squares = parts.unbind(1)
    full, last = n // rows, n % rows  # full tiles, and rows of the last incomplete one
    mean = means[:full].sum(0) * (rows / n) + (means[full] * (last / n) if last else 0)
    away = (means - mean) ** 2
    between = away[:full].sum(0) * (rows / n) + (away[full] * (last / n) if last else 0)
    return mean, squares.sum(0) / n + between


@triton.jit
def _combine(
    out, inputs, each, a, d, M, N, C,
    S: tl.constexpr, ACC: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    m = tl.program_id(1)
    on = c < C
    here = (n < N)[:, None] & on[None, :]
    at = (n * C)[:, None] + c[None, :]
    total = tl.zeros((ROWS, WIDE), ACC) + tl.load(d + m * C + c, mask=on, other=0.0)[None, :]
    for s in tl.static_range(S):
        v = tl.load(inputs[s] + m.to(tl.int64) * each[s] + at, mask=here, other=0.0).to(ACC)
        total += v * tl.load(a + (s * M + m) * C + c, mask=on, other=0.0)[None, :]
    tl.store(out + m.to(tl.int64) * N * C + at, total.to(out.dtype.element_ty), mask=here)


def linear_combination(inputs: Sequence[Tensor], a: Tensor, d: Tensor) -> Tensor:
    """Return out[m] = d[m] + sum over s of a[s, m] · inputs[s][m], in one pass; inputs (1 or M, ..., C), a (S, M, C),
    d (M, C).
    """
    c = d.shape[1]
    n = inputs[0][0].numel() // c
    out = inputs[0].new_empty((len(d), *inputs[0].shape[1:]))
    each = tuple(0 if len(t) == 1 else n * c for t in inputs)
    rows, wide = tile(c)
    grid = (triton.cdiv(n, rows), len(d), triton.cdiv(c, wide))
    fixed = dict(S=len(inputs), ACC=accumulator(out.dtype), ROWS=rows, WIDE=wide)
    _combine[grid](out, tuple(inputs), each, a.contiguous(), d.contiguous(), len(d), n, c, **fixed)
    return out


@triton.jit
def _dots(
    out, g, inputs, each, mean, M, N, C,
    S: tl.constexpr, ACC: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    m = tl.program_id(1)
    on = c < C
    here = (n < N)[:, None] & on[None, :]
    at = (n * C)[:, None] + c[None, :]
    v = tl.load(g + m.to(tl.int64) * N * C + at, mask=here, other=0.0).to(ACC)
    out += (tl.program_id(0) * (S + 1) * M + m) * C + c
    tl.store(out, tl.sum(v, 0), mask=on)
    for s in tl.static_range(S):
        z = tl.load(inputs[s] + m.to(tl.int64) * each[s] + at, mask=here, other=0.0).to(ACC)
        away = z - tl.load(mean + (s * M + m) * C + c, mask=on, other=0.0)[None, :]
        tl.store(out + (s + 1) * M * C, tl.sum(v * tl.where(here, away, 0.0), 0), mask=on)


def dot_products(g: Tensor, inputs: Sequence[Tensor], mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over pixels of g[m] (M, C), and of g[m] · (inputs[s][m] − mean[s, m]) (S, M, C), in one pass; g
    (M, ..., C).
    """
    members, c = len(g), g.shape[-1]
    n = g[0].numel() // c
    each = tuple(0 if len(t) == 1 else n * c for t in inputs)
    rows, wide = tile(c)
    blocks = triton.cdiv(n, rows)
    parts = torch.empty((blocks, len(inputs) + 1, members, c), dtype=width(g.dtype), device=g.device)
    fixed = dict(S=len(inputs), ACC=accumulator(g.dtype), ROWS=rows, WIDE=wide)
    given = parts, g, tuple(inputs), each, mean.contiguous(), members, n, c
    _dots[(blocks, members, triton.cdiv(c, wide))](*given, **fixed)
    total = parts.sum(0)
    return total[0], total[1:]
