"""The functions that cells on the Triton kernels consist of, with their gradients: separable stages, and normalise-weight-sum.

Activations are bfloat16 or float32 (float64 in the interpreter), statistics and sums at least float32; weights, of any type,
are cast for the 1 × 1 convolutions and gradients come back in theirs. Differentiable once. A backward keeps a stage's input and
output alone: activations, normalised maps and depthwise results are computed again.

Shapes: J edges that leave a node, S summands of each, K depthwise kernels of each, G = 1 or J inputs of a stage, B images,
H × W pixels, C channels, T weights of a channel over all K kernels; maps are rows of channels, (G, B, H, W, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from oche.core.errors import OcheError

if find_spec("triton") is None:
    kernels: Any = None
else:
    from oche.kernels.triton import kernels


def _once() -> None:
    if torch.is_grad_enabled():  # a backward that is itself to be differentiated
        raise OcheError(
            "the Triton kernels are differentiable once, and exact, Neumann and curvature differentiate twice; "
            "use --engine plain, or FiniteDifference"
        )


class Normal(NamedTuple):
    """How a map (M, B, H, W, C) is normalised: statistics (M, C), constants here; scale and shift (J, C) if learnt."""

    mean: Tensor | None = None
    rstd: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None

    def slope(self) -> Tensor:
        assert self.rstd is not None
        return self.rstd if self.gamma is None else self.gamma * self.rstd

    def affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift) such that normalised = x · scale + shift."""
        assert self.mean is not None
        shift = -self.mean * self.slope()
        return self.slope(), shift if self.beta is None else self.beta + shift


class Separable(torch.autograd.Function):
    """ReLU, depthwise and 1 × 1 convolutions of x (G, B, H, W, C), normalised first if ``normal`` says so.

    ``w`` (J, T, C) depthwise weights, ``dense`` K of (J, C', C); returns K maps (J, B, H', W', C').
    """

    @staticmethod
    def forward(ctx: Any, kinds: Any, stride: int, x: Tensor, w: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        normal, dense = Normal(*rest[:4]), rest[4:]
        ctx.kinds, ctx.stride = kinds, stride
        ctx.save_for_backward(x, w, *rest)
        y = Separable.stage(ctx, x, w, normal).forward(w)
        return tuple(_dense(part, d.to(x.dtype).transpose(1, 2)) for part, d in zip(y, dense, strict=True))

    @staticmethod
    def stage(ctx: Any, x: Tensor, w: Tensor, normal: Normal) -> Any:
        affine = None if normal.mean is None else tuple(t.contiguous() for t in normal.affine())
        return kernels.Depthwise(x, affine, ctx.kinds, ctx.stride, len(w))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        _once()
        x, w, *rest = ctx.saved_tensors
        normal, dense = Normal(*rest[:4]), rest[4:]
        stage = Separable.stage(ctx, x, w, normal)
        y, dy, pairs = stage.forward(w), None, []
        for k, (g, d) in enumerate(zip(gradients, dense, strict=True)):
            rows = g.reshape(len(g), -1, g.shape[-1])
            pairs.append(torch.bmm(rows.transpose(1, 2), y[k].flatten(1, 3)).to(d.dtype))
            dy = torch.empty_like(y) if dy is None else dy
            torch.bmm(rows, d.to(x.dtype), out=dy[k].flatten(1, 3))
        del y
        dx, dw = stage.input(w, dy), stage.weight(dy)
        gamma = beta = None
        if normal.mean is not None:
            dx, gamma, beta = _through_norm(dx, x, normal)
        return None, None, dx, dw, None, None, gamma, beta, *pairs


def _dense(y: Tensor, d: Tensor) -> Tensor:
    """(J, B, H, W, C) by (J, C, C')."""
    return torch.bmm(y.flatten(1, 3), d).view(*y.shape[:-1], d.shape[-1])


def _through_norm(du: Tensor, x: Tensor, normal: Normal) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients by x, scale and shift, from that by what went into the ReLU; one per member."""
    assert normal.mean is not None
    sums, (dots,) = kernels.dots(du, [x], normal.mean[None])
    dots = dots * normal.rstd
    dx = kernels.combine([du, x], *_slopes(normal, normal.slope(), sums, dots, x[0, ..., 0].numel()))
    return dx, None if normal.gamma is None else dots, None if normal.beta is None else sums


def _slopes(normal: Normal, a: Tensor, sums: Tensor, dots: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """BatchNorm's backward, dx = a · (g − mean of g − u · mean of (g · u)) with u = (x − mean) / deviation, as the
    coefficients of g, x and 1; ``sums`` those of g over the n pixels, ``dots`` of g · u."""
    assert normal.mean is not None and normal.rstd is not None
    pull = -a * normal.rstd * dots / n
    return torch.stack([a, pull]), -a * sums / n - pull * normal.mean


class Weigh(torch.autograd.Function):
    """out[j] = sum over s of w[j, s] · normalised z_s[j], w (J, S), z_s (1 or J, B, H, W, C), each with its `Normal`."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, *flat: Any) -> Tensor:
        ctx.save_for_backward(w, *flat)
        slopes, shifts = [], []
        wide = kernels.width(flat[0].dtype)
        for s, (z, *normal) in enumerate(_fives(flat)):
            scale, shift = Normal(*normal).affine() if normal[0] is not None else (w.new_ones(1, 1), w.new_zeros(1, 1))
            slopes.append((w[:, s, None] * scale).to(wide).expand(len(w), z.shape[-1]))
            shifts.append((w[:, s, None] * shift).to(wide).expand(len(w), z.shape[-1]))
        return kernels.combine(flat[::5], torch.stack(slopes), torch.stack(shifts).sum(0))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        _once()
        w, *flat = ctx.saved_tensors
        g, parts = g.contiguous(), _fives(flat)
        zero = torch.zeros((1, 1), dtype=kernels.width(g.dtype), device=g.device)
        means = [(zero if p[1] is None else p[1]).expand(len(w), g.shape[-1]) for p in parts]
        sums, dots = kernels.dots(g, flat[::5], torch.stack(means))
        columns, found = [], []
        for s, (z, *normal) in enumerate(parts):
            column, rest = Weigh.part(g, z, Normal(*normal), w[:, s, None], sums, dots[s])
            columns.append(column)
            found += rest
        return torch.stack(columns, 1).to(w.dtype), *found

    @staticmethod
    def part(g: Tensor, z: Tensor, normal: Normal, w: Tensor, sums: Tensor, dots: Tensor) -> Any:
        """Gradients by the weights (J,) of one summand, by itself, and by its normalisation."""
        count = len(w)
        if normal.rstd is None:
            ones = sums.new_ones(1, g.shape[-1])
            return dots.sum(1), [_spread(g, z, (w * ones)[:, None].unbind(), None, ones * 0), None, None, None, None]
        dots = dots * normal.rstd
        carried = dots if normal.gamma is None else normal.gamma * dots
        carried = carried if normal.beta is None else carried + normal.beta * sums
        gamma, beta = (None if n is None else w * d for n, d in ((normal.gamma, dots), (normal.beta, sums)))
        both, shift = _slopes(normal, w * normal.slope(), sums, dots, z[0, ..., 0].numel())
        if len(z) == count:
            dz = kernels.combine([g, z], both, shift)
        else:
            dz = _spread(g, z, both[0][:, None].unbind(), both[1].sum(0, keepdim=True), shift.sum(0, keepdim=True))
        return carried.sum(1), [dz, None, None, gamma, beta]


def _fives(flat: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(flat[i : i + 5]) for i in range(0, len(flat), 5)]


def _spread(g: Tensor, z: Tensor, of: Sequence[Tensor], own: Tensor | None, shift: Tensor) -> Tensor:
    """The gradient of a map that all members share: the sum of ``of`` · g over them, plus own · z + shift."""
    inputs = [*g.split(1), *([] if own is None else [z])]
    return kernels.combine(inputs, torch.stack([*of, *([] if own is None else [own])]).to(shift.dtype), shift)
