"""Autograd functions on the Triton kernels: separable stages, and the weighted sum of normalised maps.

Activations are bfloat16 or float32 (float64 in the interpreter); statistics and sums are at least float32. Weights of
any type are cast for the 1 × 1 convolutions, and their gradients have their own type. The functions can be
differentiated once. The backward keeps only a stage's input and output, and computes activations, normalised maps and
depthwise results again.

Shapes: J edges that leave a node, S summands of each, K depthwise kernels of each, G = 1 or J inputs of a stage, B
images, H × W pixels, C channels, T weights of a channel over all K kernels; maps are rows of channels, (G, B, H, W,
C).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from oche.core.errors import OcheError

if find_spec("triton") is None:
    depthwise_kernels: Any = None
    sum_kernels: Any = None
else:
    from oche.kernels.triton import depthwise as depthwise_kernels
    from oche.kernels.triton import weighted_sum as sum_kernels


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():  # this backward is to be differentiated
        raise OcheError(
            "the Triton kernels have no second derivatives, which exact, Neumann and curvature need; "
            "use --engine plain, or FiniteDifference"
        )


class Normalisation(NamedTuple):
    """The normalisation of a map (M, B, H, W, C): statistics (M, C), which are constants here; scale and shift (J,
    C), or None.
    """

    mean: Tensor | None = None
    rstd: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None

    def slope(self) -> Tensor:
        """Return scale / deviation (J or M, C)."""
        assert self.rstd is not None
        return self.rstd if self.gamma is None else self.gamma * self.rstd

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return (scale, shift) such that normalised = x · scale + shift."""
        assert self.mean is not None
        shift = -self.mean * self.slope()
        return self.slope(), shift if self.beta is None else self.beta + shift


class Separable(torch.autograd.Function):
    """ReLU, depthwise and 1 × 1 convolutions of x (G, B, H, W, C), which ``normal`` may normalise first.

    ``w`` (J, T, C) are the depthwise weights, ``dense`` K tensors (J, C', C). Returns K maps (J, B, H', W', C').
    """

    @staticmethod
    def forward(ctx: Any, kinds: Any, stride: int, x: Tensor, w: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        normal, dense = Normalisation(*rest[:4]), rest[4:]
        ctx.kinds, ctx.stride = kinds, stride
        ctx.save_for_backward(x, w, *rest)
        y = Separable.stage(ctx, x, w, normal).forward(w)
        return tuple(_pointwise(part, d.to(x.dtype).transpose(1, 2)) for part, d in zip(y, dense, strict=True))

    @staticmethod
    def stage(ctx: Any, x: Tensor, w: Tensor, normal: Normalisation) -> Any:
        """Return the depthwise kernels of this stage."""
        affine = None if normal.mean is None else tuple(t.contiguous() for t in normal.affine())
        return depthwise_kernels.Depthwise(x, affine, ctx.kinds, ctx.stride, len(w))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        _refuse_second_derivative()
        x, w, *rest = ctx.saved_tensors
        normal, dense = Normalisation(*rest[:4]), rest[4:]
        stage = Separable.stage(ctx, x, w, normal)
        y, dy, pairs = stage.forward(w), None, []
        for k, (g, d) in enumerate(zip(gradients, dense, strict=True)):
            rows = g.reshape(len(g), -1, g.shape[-1])
            pairs.append(torch.bmm(rows.transpose(1, 2), y[k].flatten(1, 3)).to(d.dtype))
            dy = torch.empty_like(y) if dy is None else dy
            torch.bmm(rows, d.to(x.dtype), out=dy[k].flatten(1, 3))
        del y
        dx, dw = stage.input_gradient(w, dy), stage.weight_gradient(dy)
        gamma = beta = None
        if normal.mean is not None:
            dx, gamma, beta = _batchnorm_backward(dx, x, normal)
        return None, None, dx, dw, None, None, gamma, beta, *pairs


def _pointwise(y: Tensor, d: Tensor) -> Tensor:
    """Multiply (J, B, H, W, C) by (J, C, C')."""
    return torch.bmm(y.flatten(1, 3), d).view(*y.shape[:-1], d.shape[-1])


def _batchnorm_backward(du: Tensor, x: Tensor, normal: Normalisation) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of x, scale and shift from that of the normalised map, one per member."""
    assert normal.mean is not None
    sums, (dots,) = sum_kernels.dot_products(du, [x], normal.mean[None])
    dots = dots * normal.rstd
    dx = sum_kernels.linear_combination(
        [du, x], *_batchnorm_coefficients(normal, normal.slope(), sums, dots, x[0, ..., 0].numel())
    )
    return dx, None if normal.gamma is None else dots, None if normal.beta is None else sums


def _batchnorm_coefficients(
    normal: Normalisation, a: Tensor, sums: Tensor, dots: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """Return the coefficients of g, x and 1 in BatchNorm's backward.

    dx = a · (g − mean of g − u · mean of (g · u)) with u = (x − mean) / deviation. ``sums`` are those of g over the n
    pixels, ``dots`` those of g · u.
    """
    assert normal.mean is not None and normal.rstd is not None
    pull = -a * normal.rstd * dots / n
    return torch.stack([a, pull]), -a * sums / n - pull * normal.mean


class WeightedSum(torch.autograd.Function):
    """out[j] = sum over s of w[j, s] · normalised z_s[j], with w (J, S) and z_s (1 or J, B, H, W, C), each with its
    `Normalisation`.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, *flat: Any) -> Tensor:
        ctx.save_for_backward(w, *flat)
        slopes, shifts = [], []
        wide = sum_kernels.width(flat[0].dtype)
        for s, (z, *normal) in enumerate(_summands(flat)):
            scale, shift = (
                Normalisation(*normal).affine() if normal[0] is not None else (w.new_ones(1, 1), w.new_zeros(1, 1))
            )
            slopes.append((w[:, s, None] * scale).to(wide).expand(len(w), z.shape[-1]))
            shifts.append((w[:, s, None] * shift).to(wide).expand(len(w), z.shape[-1]))
        return sum_kernels.linear_combination(flat[::5], torch.stack(slopes), torch.stack(shifts).sum(0))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        _refuse_second_derivative()
        w, *flat = ctx.saved_tensors
        g, parts = g.contiguous(), _summands(flat)
        zero = torch.zeros((1, 1), dtype=sum_kernels.width(g.dtype), device=g.device)
        means = [(zero if p[1] is None else p[1]).expand(len(w), g.shape[-1]) for p in parts]
        sums, dots = sum_kernels.dot_products(g, flat[::5], torch.stack(means))
        columns, found = [], []
        for s, (z, *normal) in enumerate(parts):
            column, rest = WeightedSum.part(g, z, Normalisation(*normal), w[:, s, None], sums, dots[s])
            columns.append(column)
            found += rest
        return torch.stack(columns, 1).to(w.dtype), *found

    @staticmethod
    def part(g: Tensor, z: Tensor, normal: Normalisation, w: Tensor, sums: Tensor, dots: Tensor) -> Any:
        """Return the gradients of one summand: of its weights (J,), of its map, and of its normalisation."""
        count = len(w)
        if normal.rstd is None:
            ones = sums.new_ones(1, g.shape[-1])
            return dots.sum(1), [
                _shared_input_gradient(g, z, (w * ones)[:, None].unbind(), None, ones * 0),
                None,
                None,
                None,
                None,
            ]
        dots = dots * normal.rstd
        products = dots if normal.gamma is None else normal.gamma * dots
        products = products if normal.beta is None else products + normal.beta * sums
        gamma, beta = (None if n is None else w * d for n, d in ((normal.gamma, dots), (normal.beta, sums)))
        both, shift = _batchnorm_coefficients(normal, w * normal.slope(), sums, dots, z[0, ..., 0].numel())
        if len(z) == count:
            dz = sum_kernels.linear_combination([g, z], both, shift)
        else:
            dz = _shared_input_gradient(
                g, z, both[0][:, None].unbind(), both[1].sum(0, keepdim=True), shift.sum(0, keepdim=True)
            )
        return products.sum(1), [dz, None, None, gamma, beta]


def _summands(flat: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Split the flat arguments into (map, mean, rstd, gamma, beta) of each summand."""
    return [tuple(flat[i : i + 5]) for i in range(0, len(flat), 5)]


def _shared_input_gradient(g: Tensor, z: Tensor, of: Sequence[Tensor], own: Tensor | None, shift: Tensor) -> Tensor:
    """Return the gradient of a map that all members share: the sum of ``of`` · g over members, plus own · z + shift."""
    inputs = [*g.split(1), *([] if own is None else [z])]
    return sum_kernels.linear_combination(
        inputs, torch.stack([*of, *([] if own is None else [own])]).to(shift.dtype), shift
    )
