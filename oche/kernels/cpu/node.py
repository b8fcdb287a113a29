"""One node of a cell on the compiled kernels: the weighted sum of normalised candidates, with an explicit gradient.

With z_i the output of candidate i before its last BatchNorm, mean m_i and variance v_i over the batch, r_i = (v_i +
eps)^(-1/2), scale γ_i and shift β_i (1 and 0 in a search)::

    node = Σ_i w_i (γ_i r_i (z_i − m_i) + β_i)                                       (1)

and with g the gradient of the node, N pixels of the batch, ẑ = r (z − m)::

    ∂/∂w_i = Σ_c γ_i Σ g ẑ_i + β_i Σ g                                                (2)
    ∂/∂z_i = w_i γ_i r_i (g − Σ g / N − ẑ_i Σ g ẑ_i / N) = a g + b z_i + c            (3)

So one pass over g and all z_i gives every sum, and the next kernel computes (3) while it reads. Everything is per
channel, and what is not per pixel is in double. The kernels are in csrc/. They have no second derivatives.

Shapes: B images, C channels, H × W pixels, n candidates into the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.kernels.op_terms import Stage

ops: Any = torch.ops.oche_native


@dataclass(frozen=True)
class ConvTerm:
    """A candidate that applies stages in order to source ``index`` of the node."""

    index: int
    stages: tuple[Stage, ...]
    kind = 0

    @property
    def norms(self) -> list[nn.BatchNorm2d]:
        return [stage.norm for stage in self.stages]

    def code(self) -> list[int]:
        return [value for stage in self.stages for value in (*stage.form, *norm_flags(stage.norm))]


@dataclass(frozen=True)
class TensorTerm:
    """A candidate that was computed already: tensor ``index`` of the given ones, through ``norm`` if there is one."""

    index: int
    norm: nn.BatchNorm2d | None = None
    kind = 1

    @property
    def norms(self) -> list[nn.BatchNorm2d]:
        return [] if self.norm is None else [self.norm]

    def code(self) -> list[int]:
        return [] if self.norm is None else [-1, 1, 1, 0, *norm_flags(self.norm)]


@dataclass(frozen=True)
class SourceTerm:
    """A candidate that is source ``index`` itself."""

    index: int
    kind = 2
    norms = ()

    def code(self) -> list[int]:
        return []


Term = ConvTerm | TensorTerm | SourceTerm


def norm_flags(norm: nn.BatchNorm2d) -> list[int]:
    """Return [has scale and shift, its running statistics move]."""
    return [int(norm.affine), int(norm.track_running_stats and norm.running_mean is not None)]


class NodeProgram:
    """The description of a node as the kernels read it (see csrc/terms.h), and the tensors that belong to it."""

    def __init__(self, terms: Sequence[Term], stats: Sequence[Tensor]) -> None:
        norms = [norm for term in terms for norm in term.norms]
        self.code = [value for t in terms for value in (t.kind, t.index, len(t.norms), *t.code())]
        self.numbers = [number for norm in norms for number in (norm.eps, norm.momentum)]
        moved = [norm for norm in norms if norm_flags(norm)[1]]
        self.buffers = [b for n in moved for b in (n.running_mean, n.running_var, n.num_batches_tracked)]
        self.params = [p for term in terms for p in _parameters(term)]
        self.stats = list(stats)


def _parameters(term: Term) -> list[Tensor]:
    if isinstance(term, ConvTerm):
        return [p for stage in term.stages for p in stage.parameters]
    return [p for norm in term.norms if norm.affine for p in (norm.weight, norm.bias)]


def refuse_second_derivative() -> None:
    """Raise `OcheError` in a backward that is to be differentiated again.

    torch's ``once_differentiable`` raises nothing if the second derivative also has a path around the function; then
    a part of it would be missing.
    """
    if torch.is_grad_enabled():
        raise OcheError("the compiled form has no second derivatives; use engine='plain' for this network")


class Node(torch.autograd.Function):
    """``apply(program, sources, given, w, *tensors)`` returns the node (B, C, Ho, Wo).

    ``tensors``: the ``sources``, then the ``given`` tensors (both are counts), then the parameters of the program. w
    (n,): the weights.
    """

    @staticmethod
    def forward(ctx: Any, program: NodeProgram, sources: int, given: int, w: Tensor, *tensors: Tensor) -> Tensor:  # type: ignore[override]
        xs, ys, params = tensors[:sources], tensors[sources : sources + given], tensors[sources + given :]
        out, saved = ops.node_forward(
            xs, ys, w, params, program.buffers, program.stats, program.code, program.numbers
        )  # fmt: skip
        ctx.program, ctx.sources, ctx.given = program, sources, given
        ctx.save_for_backward(w, *tensors, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        refuse_second_derivative()
        program, a, b = ctx.program, ctx.sources, ctx.sources + ctx.given
        w, *rest = ctx.saved_tensors
        count = b + len(program.params)
        tensors, saved, needs = rest[:count], rest[count:], ctx.needs_input_grad[4:]
        gw, gxs, gys, gparams = ops.node_backward(
            g, tensors[:a], tensors[a:b], w, tensors[b:], program.code, program.numbers, saved,
            [int(n) for n in needs[:a]], [int(n) for n in needs[a:b]], any(needs[b:]),
        )  # fmt: skip
        found = [v if n and v.numel() else None for v, n in zip([*gxs, *gys, *gparams], needs, strict=True)]
        return None, None, None, gw, *found


class Pools(torch.autograd.Function):
    """``apply(x, stride, want_max, want_mean)`` returns 3 × 3 maximum and average, and their statistics (2, 2, C).

    Both are (B, C, Ho, Wo), or empty if not wanted. The statistics are mean and biased variance of each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, want_max: bool, want_mean: bool) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        largest, which, mean, stats = ops.pools_forward(x, stride, want_max, want_mean)
        ctx.save_for_backward(which)
        ctx.shape, ctx.stride, ctx.want = x.shape, stride, (want_max, want_mean)
        ctx.mark_non_differentiable(stats)
        ctx.set_materialize_grads(False)
        return largest, mean, stats

    @staticmethod
    def backward(ctx: Any, g_max: Tensor | None, g_mean: Tensor | None, _: Any) -> Any:  # type: ignore[override]
        refuse_second_derivative()
        of_max, of_mean = (g if want else None for g, want in zip((g_max, g_mean), ctx.want, strict=True))
        if of_max is None and of_mean is None:
            return None, None, None, None
        return ops.pools_backward(of_max, ctx.saved_tensors[0], of_mean, *ctx.shape, ctx.stride), None, None, None
