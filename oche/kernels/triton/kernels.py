"""Triton kernels of the GPU path: depthwise stages, and normalise-weight-sum, forward and backward.

Everything is laid out as rows of channels: x (G, B, H, W, C) contiguous, G = 1 where all members share it, else J. Sums and
statistics are in float32 (float64 for float64), whatever the activations are. No atomics, so equal inputs give equal bits.
Unmeasured: no GPU was at hand. Tested in Triton's interpreter, and compiled for sm_90.

Shapes: J members (edges), K kernels of a member, B images, H × W pixels in, P = B · H' · W' pixels out, C channels, T weights
of a channel over all K kernels, S summands.
"""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

Kinds = tuple[tuple[int, int], ...]  # (kernel size, dilation) of each kernel of a member
TILE = 1024  # elements of a program's tile, of a depthwise stage a quarter of it
CHUNK = 16  # tiles that a program of the weight gradient goes through


def width(dtype: torch.dtype) -> torch.dtype:
    """What is summed in."""
    return torch.promote_types(dtype, torch.float32)


@lru_cache(maxsize=256)
def taps(kinds: Kinds) -> tuple[tuple[int, ...], ...]:
    """(dy, dx, for each kernel its weight's row of the T, −1 where it has none there) of every pixel that one looks at."""
    rows: dict[tuple[int, int], list[int]] = {}
    row = 0
    for k, (size, dilation) in enumerate(kinds):
        for i in range(size * size):
            at = tuple(dilation * (v - size // 2) for v in divmod(i, size))
            rows.setdefault(at, [-1] * len(kinds))[k] = row
            row += 1
    return tuple((*at, *rows[at]) for at in sorted(rows))


def tile(channels: int, share: int = 1) -> tuple[int, int]:
    """(rows, channels) of a program's tile, of ``TILE`` / share elements."""
    wide = min(triton.next_power_of_2(channels), 64)
    return max(1, TILE // share // wide), wide


def _sums(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


# --- depthwise --------------------------------------------------------------------------------------------------------


@triton.jit
def _activation(x, at, inside, scale, shift, NORM: tl.constexpr, ACC: tl.constexpr):
    """relu(x · scale + shift) where ``inside``, else 0: padding comes behind the activation."""
    v = tl.load(x + at, mask=inside, other=0.0).to(ACC)
    if NORM:
        v = v * scale + shift
    return tl.where(inside, tl.maximum(v, 0.0), 0.0)


@triton.jit
def _coefficients(scale, shift, at, on, NORM: tl.constexpr, ACC: tl.constexpr):
    if NORM:
        return tl.load(scale + at, mask=on, other=0.0)[None, :], tl.load(shift + at, mask=on, other=0.0)[None, :]
    else:
        return tl.zeros((1, 1), ACC), tl.zeros((1, 1), ACC)


@triton.jit
def _forward(
    x, scale, shift, w, y, each, J, P,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, C: tl.constexpr,
    TAPS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, STRIDE: tl.constexpr, NORM: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    j = tl.program_id(1)
    on = c < C
    row, col = p // WO % HO * STRIDE, p % WO * STRIDE
    image = p // (WO * HO) * H
    g = j * (each > 0)
    a, b = _coefficients(scale, shift, g * C + c, on, NORM, ACC)
    x += g.to(tl.int64) * each
    sums = ()
    for _ in tl.static_range(K):
        sums = sums + (tl.zeros((ROWS, WIDE), ACC),)  # noqa: RUF005 (tuples of Triton cannot be unpacked)
    for t in tl.static_range(len(TAPS)):
        r, q = row + TAPS[t][0], col + TAPS[t][1]
        inside = ((p < P) & (r >= 0) & (r < H) & (q >= 0) & (q < W))[:, None] & on[None, :]
        v = _activation(x, (((image + r) * W + q) * C)[:, None] + c[None, :], inside, a, b, NORM, ACC)
        grown = ()
        for k in tl.static_range(K):
            if TAPS[t][2 + k] >= 0:
                weight = tl.load(w + (j * T + TAPS[t][2 + k]) * C + c, mask=on, other=0.0)
                grown = grown + (sums[k] + v * weight[None, :],)  # noqa: RUF005
            else:
                grown = grown + (sums[k],)  # noqa: RUF005
        sums = grown
    out = (p * C)[:, None] + c[None, :]
    for k in tl.static_range(K):
        at = (k * J + j).to(tl.int64) * P * C
        tl.store(y + at + out, sums[k].to(y.dtype.element_ty), mask=(p < P)[:, None] & on[None, :])


@triton.jit
def _backward_input(
    x, scale, shift, w, dy, dx, each, J, N, P, MEMBERS,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, C: tl.constexpr,
    TAPS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, STRIDE: tl.constexpr, NORM: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    g = tl.program_id(1)
    on = c < C
    row, col, image = n // W % H, n % W, n // (W * H) * HO
    total = tl.zeros((ROWS, WIDE), ACC)
    for m in range(0, MEMBERS):  # those that share this x
        j = g + m
        for t in tl.static_range(len(TAPS)):
            r, q = row - TAPS[t][0], col - TAPS[t][1]
            inside = (n < N) & (r >= 0) & (q >= 0) & (r % STRIDE == 0) & (q % STRIDE == 0)
            r, q = r // STRIDE, q // STRIDE
            inside = (inside & (r < HO) & (q < WO))[:, None] & on[None, :]
            at = (((image + r) * WO + q) * C)[:, None] + c[None, :]
            for k in tl.static_range(K):
                if TAPS[t][2 + k] >= 0:
                    weight = tl.load(w + (j * T + TAPS[t][2 + k]) * C + c, mask=on, other=0.0)
                    d = tl.load(dy + (k * J + j).to(tl.int64) * P * C + at, mask=inside, other=0.0)
                    total += d.to(ACC) * weight[None, :]
    here = (n < N)[:, None] & on[None, :]
    at = g.to(tl.int64) * each + (n * C)[:, None] + c[None, :]
    a, b = _coefficients(scale, shift, g * C + c, on, NORM, ACC)
    active = _activation(x, at, here, a, b, NORM, ACC) > 0
    tl.store(dx + at, tl.where(active, total, 0.0).to(dx.dtype.element_ty), mask=here)


@triton.jit
def _backward_weight(
    x, scale, shift, dy, dw, each, J, P,
    H: tl.constexpr, W: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr, C: tl.constexpr,
    TAPS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, STRIDE: tl.constexpr, NORM: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, WIDE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(2) * WIDE + tl.arange(0, WIDE)
    j = tl.program_id(1)
    on = c < C
    g = j * (each > 0)
    a, b = _coefficients(scale, shift, g * C + c, on, NORM, ACC)
    x += g.to(tl.int64) * each
    dw += (tl.program_id(0).to(tl.int64) * J + j) * T * C
    for t in tl.static_range(len(TAPS)):
        for k in tl.static_range(K):
            if TAPS[t][2 + k] >= 0:
                total = tl.zeros((ROWS, WIDE), ACC)
                for i in range(0, CHUNK):
                    p = (tl.program_id(0) * CHUNK + i) * ROWS + tl.arange(0, ROWS)
                    r, q = p // WO % HO * STRIDE + TAPS[t][0], p % WO * STRIDE + TAPS[t][1]
                    inside = ((p < P) & (r >= 0) & (r < H) & (q >= 0) & (q < W))[:, None] & on[None, :]
                    at = (((p // (WO * HO) * H + r) * W + q) * C)[:, None] + c[None, :]
                    v = _activation(x, at, inside, a, b, NORM, ACC)
                    out = (k * J + j).to(tl.int64) * P * C + (p * C)[:, None] + c[None, :]
                    total += v * tl.load(dy + out, mask=inside, other=0.0).to(ACC)
                tl.store(dw + TAPS[t][2 + k] * C + c, tl.sum(total, 0), mask=on)


Norm = tuple[Tensor, Tensor]  # scale and shift (G, C) before the ReLU


class Depthwise:
    """The launches of one depthwise stage, x (G, B, H, W, C), scaled and shifted by ``norm`` if given, then ReLU."""

    def __init__(self, x: Tensor, norm: Norm | None, kinds: Kinds, stride: int, members: int) -> None:
        groups, b, h, w, c = x.shape
        self.x, self.norm, self.members, self.groups = x, norm, members, groups
        self.scale, self.shift = norm or (x, x)
        self.out = (b, (h - 1) // stride + 1, (w - 1) // stride + 1, c)
        self.pixels = b * self.out[1] * self.out[2]
        self.size = dict(H=h, W=w, HO=self.out[1], WO=self.out[2], C=c)
        self.each = 0 if groups == 1 else x[0].numel()
        self.rows, wide = tile(c, 4)
        self.across = triton.cdiv(c, wide)
        self.count = len(kinds)
        self.fixed = dict(
            TAPS=taps(kinds), K=self.count, T=sum(r * r for r, _ in kinds), STRIDE=stride, NORM=norm is not None,
            ACC=_sums(x.dtype), ROWS=self.rows, WIDE=wide,
        )  # fmt: skip

    def forward(self, w: Tensor) -> Tensor:
        """y (K, J, B, H', W', C) for weights (J, T, C)."""
        y = self.x.new_empty((self.count, self.members, *self.out))
        grid = (triton.cdiv(self.pixels, self.rows), self.members, self.across)
        given = self.x, self.scale, self.shift, w, y, self.each, self.members, self.pixels
        _forward[grid](*given, **self.size, **self.fixed)
        return y

    def input(self, w: Tensor, dy: Tensor) -> Tensor:
        """Gradient (G, B, H, W, C) by what goes into the ReLU."""
        dx = torch.empty_like(self.x)
        n = self.x[0, ..., 0].numel()
        grid = (triton.cdiv(n, self.rows), self.groups, self.across)
        given = self.x, self.scale, self.shift, w, dy, dx, self.each, self.members, n, self.pixels
        shared = self.members if self.groups == 1 else 1
        _backward_input[grid](*given, **self.size, MEMBERS=shared, **self.fixed)
        return dx

    def weight(self, dy: Tensor) -> Tensor:
        """Gradient (J, T, C) by the weights."""
        blocks = triton.cdiv(self.pixels, self.rows * CHUNK)
        shape = (blocks, self.members, self.fixed["T"], self.size["C"])
        dw = torch.empty(shape, dtype=width(self.x.dtype), device=self.x.device)
        given = self.x, self.scale, self.shift, dy, dw, self.each, self.members, self.pixels
        _backward_weight[(blocks, self.members, self.across)](*given, **self.size, **self.fixed, CHUNK=CHUNK)
        return dw.sum(0)


# --- normalise, weight, sum -------------------------------------------------------------------------------------------


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
    """Mean and biased variance (M, C) of z (M, ..., C): of each tile around its own mean, then put together."""
    members, c = len(z), z.shape[-1]
    n = z[0].numel() // c
    rows, wide = tile(c)
    blocks = triton.cdiv(n, rows)
    parts = torch.empty((blocks, 2, members, c), dtype=width(z.dtype), device=z.device)
    grid = (blocks, members, triton.cdiv(c, wide))
    _moments[grid](z, parts, members, n, c, ACC=_sums(z.dtype), ROWS=rows, WIDE=wide)
    means, squares = parts.unbind(1)
    full, last = n // rows, n % rows  # tiles of ``rows`` rows, rows of the one behind them
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


def combine(inputs: Sequence[Tensor], a: Tensor, d: Tensor) -> Tensor:
    """out[m] = d[m] + sum over s of a[s, m] · inputs[s][m], in one pass; inputs (1 or M, ..., C), a (S, M, C), d (M, C)."""
    c = d.shape[1]
    n = inputs[0][0].numel() // c
    out = inputs[0].new_empty((len(d), *inputs[0].shape[1:]))
    each = tuple(0 if len(t) == 1 else n * c for t in inputs)
    rows, wide = tile(c)
    grid = (triton.cdiv(n, rows), len(d), triton.cdiv(c, wide))
    fixed = dict(S=len(inputs), ACC=_sums(out.dtype), ROWS=rows, WIDE=wide)
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


def dots(g: Tensor, inputs: Sequence[Tensor], mean: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over pixels of g[m] (M, C), and of g[m] · (inputs[s][m] − mean[s, m]) (S, M, C), in one pass; g (M, ..., C)."""
    members, c = len(g), g.shape[-1]
    n = g[0].numel() // c
    each = tuple(0 if len(t) == 1 else n * c for t in inputs)
    rows, wide = tile(c)
    blocks = triton.cdiv(n, rows)
    parts = torch.empty((blocks, len(inputs) + 1, members, c), dtype=width(g.dtype), device=g.device)
    fixed = dict(S=len(inputs), ACC=_sums(g.dtype), ROWS=rows, WIDE=wide)
    given = parts, g, tuple(inputs), each, mean.contiguous(), members, n, c
    _dots[(blocks, members, triton.cdiv(c, wide))](*given, **fixed)
    total = parts.sum(0)
    return total[0], total[1:]
