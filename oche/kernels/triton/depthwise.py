"""Triton kernels of a depthwise stage (normalisation, ReLU, depthwise convolutions), forward and backward.

Maps are rows of channels, x (G, B, H, W, C) contiguous; G is 1 if all members share one map, else J. Sums are in float32 (float64
for float64), whatever the type of the activations. No atomics are used, so equal inputs give equal bits. Unmeasured: no GPU was
available. Tested in Triton's interpreter, and compiled for sm_90.

Shapes: J members (edges), K kernels of each member, B images, H × W input pixels, P = B · H' · W' output pixels, C channels, T
weights of a channel over all K kernels.
"""

# pyright: reportMissingImports=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from oche.kernels.triton.weighted_sum import accumulator, tile, width

Kinds = tuple[tuple[int, int], ...]  # (kernel size, dilation) of each kernel of a member
CHUNK = 16  # tiles that one program of the weight gradient goes through


@lru_cache(maxsize=256)
def taps(kinds: Kinds) -> tuple[tuple[int, ...], ...]:
    """Return, for every offset (dy, dx) that a kernel reads, (dy, dx, row of each kernel's weight in T or −1)."""
    rows: dict[tuple[int, int], list[int]] = {}
    row = 0
    for k, (size, dilation) in enumerate(kinds):
        for i in range(size * size):
            at = tuple(dilation * (v - size // 2) for v in divmod(i, size))
            rows.setdefault(at, [-1] * len(kinds))[k] = row
            row += 1
    return tuple((*at, *rows[at]) for at in sorted(rows))


@triton.jit
def _activation(x, at, inside, scale, shift, NORM: tl.constexpr, ACC: tl.constexpr):
    """Return relu(x · scale + shift) where ``inside``, else 0: padding comes after the activation."""
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
    for m in range(0, MEMBERS):  # the members that share this x
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
    """Launches the kernels of one depthwise stage of x (G, B, H, W, C), scaled and shifted by ``norm`` if given, then
    ReLU.
    """

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
            ACC=accumulator(x.dtype), ROWS=self.rows, WIDE=wide,
        )  # fmt: skip

    def forward(self, w: Tensor) -> Tensor:
        """Return y (K, J, B, H', W', C) for weights (J, T, C)."""
        y = self.x.new_empty((self.count, self.members, *self.out))
        grid = (triton.cdiv(self.pixels, self.rows), self.members, self.across)
        given = self.x, self.scale, self.shift, w, y, self.each, self.members, self.pixels
        _forward[grid](*given, **self.size, **self.fixed)
        return y

    def input_gradient(self, w: Tensor, dy: Tensor) -> Tensor:
        """Return the gradient (G, B, H, W, C) of the input of the ReLU."""
        dx = torch.empty_like(self.x)
        n = self.x[0, ..., 0].numel()
        grid = (triton.cdiv(n, self.rows), self.groups, self.across)
        given = self.x, self.scale, self.shift, w, dy, dx, self.each, self.members, n, self.pixels
        shared = self.members if self.groups == 1 else 1
        _backward_input[grid](*given, **self.size, MEMBERS=shared, **self.fixed)
        return dx

    def weight_gradient(self, dy: Tensor) -> Tensor:
        """Return the gradient (J, T, C) of the weights."""
        blocks = triton.cdiv(self.pixels, self.rows * CHUNK)
        shape = (blocks, self.members, self.fixed["T"], self.size["C"])
        dw = torch.empty(shape, dtype=width(self.x.dtype), device=self.x.device)
        given = self.x, self.scale, self.shift, dy, dw, self.each, self.members, self.pixels
        _backward_weight[(blocks, self.members, self.across)](*given, **self.size, **self.fixed, CHUNK=CHUNK)
        return dw.sum(0)
