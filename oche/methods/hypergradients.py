"""Gradients of the upper problem: min over a of outer(w*(a), a), with w*(a) = argmin over w of inner(w, a).

Each is a function ``(inner, outer, w, a, step) -> gradients with respect to a``, where::

    w      tuple of tensors of any shapes, the lower variable (network weights)
    a      tuple of tensors of any shapes, the upper variable (architecture logits)
    inner  (w, a) -> training loss ()
    outer  (w, a) -> validation loss ()
    step   an SgdStep, the step of the lower problem at w

They neither modify their arguments nor accumulate into ``.grad``. The losses must be deterministic functions of (w, a),
with their noise fixed. A variable that a loss does not use has gradient zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.registry import component, singleton

if TYPE_CHECKING:
    from oche.spaces.base import Space

Tensors = tuple[Tensor, ...]
Loss = Callable[[Tensors, Tensors], Tensor]


@dataclass(frozen=True)
class SgdStep:
    """One step of SGD with momentum and weight decay, as `torch.optim.SGD` takes it (without Nesterov or dampening).

    With ``clip`` > 0, gradients g are first scaled to c(g) = g · min(1, clip / (‖g‖ + 1e-6)), as
    `torch.nn.utils.clip_grad_norm_` does.
    """

    lr: float  #: ξ in the papers
    momentum: float = 0.0
    decay: float = 0.0
    buffers: Sequence[Tensor | None] | None = None  #: momentum buffers before the step, one for each tensor of w
    clip: float = 0.0  #: largest norm of all gradients together; 0: no clipping

    def __call__(self, w: Tensors, gradients: Tensors) -> Tensors:
        """Return w' = w − lr (momentum · buffer + c(gradient) + decay · w), differentiable in w and gradients."""
        gradients = self.clipped(gradients)
        buffers = self.buffers or [None] * len(w)
        return tuple(
            x - self.lr * (g + self.decay * x + (0 if b is None else self.momentum * b))
            for x, g, b in zip(w, gradients, buffers, strict=True)
        )

    def clipped(self, gradients: Tensors) -> Tensors:
        """Return the clipped gradients, c(gradients)."""
        if not self.clip:
            return gradients
        scale = (self.clip / (_norm(gradients) + 1e-6)).clamp(max=1)
        return tuple(scale * g for g in gradients)

    def pull_back(self, gradients: Tensors, v: Tensors) -> Tensors:
        """Return vᵀ · ∂c/∂gradients, the pullback of v through the clipping.

        Without clipping it is v. Otherwise it is v scaled as the gradients are, without its component along them.

        Deviation 1 from DARTS' released code for language: that takes the scale of the clipping as a constant, clips v
        itself and adds weight decay to it.
        """
        if not self.clip:
            return v
        norm = _norm(gradients)
        scale = (self.clip / (norm + 1e-6)).clamp(max=1)
        along = torch.stack([(g * d).sum() for g, d in zip(gradients, v, strict=True)]).sum() / (norm * (norm + 1e-6))
        along = torch.where(scale < 1, along, 0)  # no `if`: that would wait for the device
        return tuple(scale * (d - along * g) for g, d in zip(gradients, v, strict=True))


@dataclass(frozen=True)
class HyperGradient:
    """Base of the hypergradients."""

    one_level = False  #: whether it uses the lower problem's loss and batch, and no validation half
    moves = True  #: whether the architecture ever moves; if not, a search does not call it
    twice = False  #: whether it needs losses that can be differentiated twice
    draws = False  #: whether it draws architectures, and needs a relaxation with a `log_prob`
    differences = False  #: whether it takes differences of losses at neighbouring weights, which bfloat16 rounds away

    def check_space(self, space: Space) -> None:
        """Raise `OcheError` if the losses of ``space`` do not give what the hypergradient takes."""

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        """Return the gradients of the upper problem with respect to ``a``, one tensor for each in ``a``. See the module for
        the arguments.
        """
        raise NotImplementedError


def _as_leaves(tensors: Tensors) -> Tensors:
    """Return ``tensors`` as new leaves of the graph, so that the caller's tensors never accumulate gradients."""
    return tuple(t.detach().requires_grad_() for t in tensors)


def _detach(tensors: Tensors) -> Tensors:
    """Return ``tensors`` outside the graph, which saves memory where they are not differentiated."""
    return tuple(t.detach() for t in tensors)


def _grad(loss: Tensor, of: Tensors, create_graph: bool = False) -> Tensors:
    """Return the gradients of ``loss`` with respect to ``of``; zeros for tensors that the loss does not use."""
    if not loss.requires_grad:  # the loss uses none of them
        return tuple(torch.zeros_like(t) for t in of)
    return torch.autograd.grad(loss, of, create_graph=create_graph, materialize_grads=True)


def _norm(v: Tensors) -> Tensor:
    """Return the norm () of all tensors together."""
    return torch.stack([t.norm() for t in v]).norm()


@dataclass(frozen=True)
class Joint(HyperGradient):
    """One-level optimisation (1806.09055 §4; seed §1.1): ∇_a inner(w, a). Both variables descend the same loss."""

    one_level = True

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        del outer, step
        a = _as_leaves(a)
        return _grad(inner(_detach(w), a), a)


@dataclass(frozen=True)
class FirstOrder(HyperGradient):
    """∇_a outer(w, a): the lower solution is treated as independent of a (1806.09055 §2.3 with ξ = 0)."""

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        del inner, step
        a = _as_leaves(a)
        return _grad(outer(_detach(w), a), a)


@dataclass(frozen=True)
class Fixed(HyperGradient):
    """Zero: the logits stay at their start. A selection that evaluates the trained supernet chooses the cell."""

    moves = False

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        del inner, outer, w, step
        return tuple(torch.zeros_like(t) for t in a)


@component
@dataclass(frozen=True)
class FiniteDifference(HyperGradient):
    """DARTS' second order (1806.09055 eq. 7–8): one look-ahead step, with its mixed derivative by central differences.

    With w' = step(w) and v = ∇_{w'} outer(w', a)::

        ∇_a outer(w', a) − lr · [∇_a inner(w + ε v, a) − ∇_a inner(w − ε v, a)] / 2ε,   ε = epsilon / ‖v‖

    If the step clips, v is first pulled back through the clipping (`SgdStep.pull_back`). Costs four gradients.
    """

    differences = True

    epsilon: float = 0.01
    """length of the step of the central difference in the space of weights"""

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise OcheError(f"epsilon={self.epsilon} gives no finite difference; use epsilon > 0, published: 0.01")

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        w, a = _as_leaves(w), _as_leaves(a)
        slope = _grad(inner(w, _detach(a)), w)
        ahead = _as_leaves(step(w, slope))
        direct, v = _split(_grad(outer(ahead, a), a + ahead), len(a))
        v = step.pull_back(slope, v)
        norm = _norm(v)
        # If the outer loss does not depend on the weights, v is 0 and so is the difference. (An `if` would wait for the device.)
        eps = self.epsilon / norm.where(norm > 0, 1)
        up, down = (
            _grad(inner(tuple(x.detach() + sign * eps * d for x, d in zip(w, v, strict=True)), a), a)
            for sign in (1, -1)
        )
        return tuple(g - step.lr * (p - m) / (2 * eps) for g, p, m in zip(direct, up, down, strict=True))


def _split(tensors: Tensors, n: int) -> tuple[Tensors, Tensors]:
    """Return the first ``n`` tensors, and the others."""
    return tensors[:n], tensors[n:]


@dataclass(frozen=True)
class Exact(HyperGradient):
    """DARTS' look-ahead differentiated exactly (1806.09055 eq. 6): ∇_a outer(w'(w, a), a).

    The mixed derivative is a vector-Jacobian product with v = ∇_{w'} outer(w', a), by differentiating the inner gradient.
    """

    twice = True

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        w, a = _as_leaves(w), _as_leaves(a)
        slope = _grad(inner(w, a), w, create_graph=True)
        ahead = _as_leaves(step(w, slope))
        direct, v = _split(_grad(outer(ahead, a), a + ahead), len(a))
        mixed = _vjp(slope, a, step.pull_back(_detach(slope), v))
        return tuple(g - step.lr * m for g, m in zip(direct, mixed, strict=True))


def _vjp(values: Tensors, of: Tensors, v: Tensors, retain: bool = False) -> Tensors:
    """Return Σ v · ∂values/∂of; zeros if the values do not depend on ``of`` (as for a loss that is linear in w)."""
    pairs = [(s, d) for s, d in zip(values, v, strict=True) if s.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(t) for t in of)
    outputs, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, of, cotangents, materialize_grads=True, retain_graph=retain)


@component
@dataclass(frozen=True)
class Neumann(HyperGradient):
    """Implicit gradient at a lower optimum, with the inverse Hessian as a Neumann series (1911.02590; iDARTS, 2106.10784
    eq. 9).

    With v = ∇_w outer(w, a) and H = ∇²_w inner(w, a)::

        ∇_a outer − ∇²_{a,w} inner · p,   p = scale · Σ_{k=0}^{terms} (I − scale · H)^k v  →  H⁻¹ v

    The series converges for 0 < scale < 2 / ‖H‖ and H positive definite. ``scale=None`` takes the step's learning rate.
    Weight decay belongs to the lower problem, so step.decay is added to H. Momentum plays no part at an optimum.

    Raises `OcheError` unless terms >= 0 and scale > 0.
    """

    twice = True

    terms: int = 5
    """products with the Hessian"""
    scale: float | None = None
    """size of the series' steps; the weights' learning rate by default"""

    def __post_init__(self) -> None:
        if self.terms < 0 or (self.scale is not None and not self.scale > 0):
            raise OcheError(
                f"terms={self.terms}, scale={self.scale} cannot form a Neumann series; use terms >= 0 and scale > 0"
            )

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        w, a = _as_leaves(w), _as_leaves(a)
        direct, v = _split(_grad(outer(w, a), a + w), len(a))
        slope = _grad(inner(w, a), w, create_graph=True)
        scale = step.lr if self.scale is None else self.scale
        term, total = v, v
        for _ in range(self.terms):
            curved = _vjp(slope, w, term, retain=True)
            term = tuple(t - scale * (h + step.decay * t) for t, h in zip(term, curved, strict=True))
            total = tuple(s + t for s, t in zip(total, term, strict=True))
        mixed = _vjp(slope, a, tuple(scale * s for s in total))
        return tuple(g - m for g, m in zip(direct, mixed, strict=True))


joint = singleton("joint", Joint())
first_order = singleton("first_order", FirstOrder())
exact = singleton("exact", Exact())
fixed = singleton("fixed", Fixed())
