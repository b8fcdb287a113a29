"""Gradients of the upper problem, min over a of outer(w*(a), a) with w*(a) = argmin over w of inner(w, a).

Every one is a function ``(inner, outer, w, a, step) -> gradients with respect to a``, where::

    w      tuple of tensors, the lower variable (network weights), any shapes
    a      tuple of tensors, the upper variable (architecture logits), any shapes
    inner  (w, a) -> scalar training loss       outer  (w, a) -> scalar validation loss
    step   how the lower problem moves from here, an SgdStep

They neither modify their arguments nor accumulate into ``.grad``; the losses must be deterministic functions of (w, a),
their noise fixed. A variable that a loss does not use has gradient zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.registry import component, singleton

Tensors = tuple[Tensor, ...]
Loss = Callable[[Tensors, Tensors], Tensor]


@dataclass(frozen=True)
class SgdStep:
    """One step of SGD with momentum and weight decay, as `torch.optim.SGD` takes it (without Nesterov or dampening).

    With ``clip`` gradients g are first scaled to c(g) = g · min(1, clip / (‖g‖ + 1e-6)), as `clip_grad_norm_` does.
    """

    lr: float  #: xi of the papers
    momentum: float = 0.0
    decay: float = 0.0
    buffers: Sequence[Tensor | None] | None = None  #: momentum buffers before the step, in the order of w
    clip: float = 0.0  #: largest norm of the whole gradient; 0: no clipping

    def __call__(self, w: Tensors, gradients: Tensors) -> Tensors:
        """w' = w − lr (momentum · buffer + c(gradient) + decay · w); differentiable in w and gradients."""
        gradients = self.clipped(gradients)
        buffers = self.buffers or [None] * len(w)
        return tuple(
            x - self.lr * (g + self.decay * x + (0 if b is None else self.momentum * b))
            for x, g, b in zip(w, gradients, buffers, strict=True)
        )

    def clipped(self, gradients: Tensors) -> Tensors:
        """c(gradients)."""
        if not self.clip:
            return gradients
        scale = (self.clip / (_norm(gradients) + 1e-6)).clamp(max=1)
        return tuple(scale * g for g in gradients)

    def pulled(self, gradients: Tensors, v: Tensors) -> Tensors:
        """vᵀ · ∂c/∂gradients: v where nothing is clipped, else scaled as they are and without its part along them.

        Deviation 1 from DARTS' released code for language, which takes the scale of the clipping as a constant, clips v itself
        and adds weight decay to it.
        """
        if not self.clip:
            return v
        norm = _norm(gradients)
        scale = (self.clip / (norm + 1e-6)).clamp(max=1)
        along = torch.stack([(g * d).sum() for g, d in zip(gradients, v, strict=True)]).sum() / (norm * (norm + 1e-6))
        along = torch.where(scale < 1, along, 0)  # not asked: the device would have to be waited for
        return tuple(scale * (d - along * g) for g, d in zip(gradients, v, strict=True))


@dataclass(frozen=True)
class HyperGradient:
    """Base of the functions of this file. ``one_level`` ones share the lower problem's loss and batch; those for which the
    architecture never ``moves`` are not even asked; those that differentiate ``twice`` need losses that can be; those that take
    ``differences`` of losses at weights next to each other need more digits than bfloat16 has."""

    one_level = False
    moves = True
    twice = False
    differences = False

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        raise NotImplementedError


def _fresh(tensors: Tensors) -> Tensors:
    """The same values as new leaves of the graph, so that callers' tensors never collect anything."""
    return tuple(t.detach().requires_grad_() for t in tensors)


def _constant(tensors: Tensors) -> Tensors:
    """The same values outside the graph: what is not differentiated need not be remembered for it."""
    return tuple(t.detach() for t in tensors)


def _grad(loss: Tensor, of: Tensors, create_graph: bool = False) -> Tensors:
    if not loss.requires_grad:  # it uses none of them
        return tuple(torch.zeros_like(t) for t in of)
    return torch.autograd.grad(loss, of, create_graph=create_graph, materialize_grads=True)


def _norm(v: Tensors) -> Tensor:
    return torch.stack([t.norm() for t in v]).norm()


@dataclass(frozen=True)
class Joint(HyperGradient):
    """One-level optimisation (seed §1.1; 1806.09055 §4): ∇_a inner(w, a); both variables descend the same loss."""

    one_level = True

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        del outer, step
        a = _fresh(a)
        return _grad(inner(_constant(w), a), a)


@dataclass(frozen=True)
class FirstOrder(HyperGradient):
    """∇_a outer(w, a): the lower solution is taken not to depend on a (1806.09055 §2.3 with xi = 0)."""

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        del inner, step
        a = _fresh(a)
        return _grad(outer(_constant(w), a), a)


@dataclass(frozen=True)
class Fixed(HyperGradient):
    """Zero: logits stay where they start, and a selection that asks the trained supernet makes the choice."""

    moves = False

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        del inner, outer, w, step
        return tuple(torch.zeros_like(t) for t in a)


@component
@dataclass(frozen=True)
class FiniteDifference(HyperGradient):
    """DARTS' second order (1806.09055 eq. 7–8): one look-ahead step, its mixed derivative by central differences.

    With w' = step(w) and v = ∇_{w'} outer(w', a)::

        ∇_a outer(w', a) − lr · [∇_a inner(w + ε v, a) − ∇_a inner(w − ε v, a)] / 2ε,   ε = epsilon / ‖v‖.

    Where the step clips, v is first pulled back through the clipping (`SgdStep.pulled`).
    """

    differences = True

    epsilon: float = 0.01
    """length of the step of the central difference in the space of weights"""

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise OcheError(f"epsilon={self.epsilon} gives no difference to take; use epsilon > 0, published: 0.01")

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        w, a = _fresh(w), _fresh(a)
        slope = _grad(inner(w, _constant(a)), w)
        ahead = _fresh(step(w, slope))
        direct, v = _split(_grad(outer(ahead, a), a + ahead), len(a))
        v = step.pulled(slope, v)
        norm = _norm(v)
        # Where the weights do not matter to the outer loss, v is 0 and so is the difference. (The host is not asked.)
        eps = self.epsilon / norm.where(norm > 0, 1)
        up, down = (
            _grad(inner(tuple(x.detach() + sign * eps * d for x, d in zip(w, v, strict=True)), a), a)
            for sign in (1, -1)
        )
        return tuple(g - step.lr * (p - m) / (2 * eps) for g, p, m in zip(direct, up, down, strict=True))


def _split(tensors: Tensors, n: int) -> tuple[Tensors, Tensors]:
    return tensors[:n], tensors[n:]


@dataclass(frozen=True)
class Exact(HyperGradient):
    """The same look-ahead differentiated exactly: ∇_a outer(w'(w, a), a), its mixed derivative as a product with v."""

    twice = True

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        w, a = _fresh(w), _fresh(a)
        slope = _grad(inner(w, a), w, create_graph=True)
        ahead = _fresh(step(w, slope))
        direct, v = _split(_grad(outer(ahead, a), a + ahead), len(a))
        mixed = _vjp(slope, a, step.pulled(_constant(slope), v))
        return tuple(g - step.lr * m for g, m in zip(direct, mixed, strict=True))


def _vjp(values: Tensors, of: Tensors, v: Tensors, retain: bool = False) -> Tensors:
    """Σ v · ∂values/∂of; zero where values do not depend on ``of`` (a loss linear in w, say)."""
    pairs = [(s, d) for s, d in zip(values, v, strict=True) if s.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(t) for t in of)
    outputs, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, of, cotangents, materialize_grads=True, retain_graph=retain)


@component
@dataclass(frozen=True)
class Neumann(HyperGradient):
    """Implicit gradient at a lower optimum, the inverse Hessian by its Neumann series (1911.02590; iDARTS 2106.10784 eq. 9).

    With v = ∇_w outer(w, a) and H = ∇²_w inner(w, a)::

        ∇_a outer − ∇²_{a,w} inner · p,   p = scale · Σ_{k=0}^{terms} (I − scale · H)^k v  →  H⁻¹ v.

    The series converges for 0 < scale < 2 / ‖H‖ with H positive definite. ``scale=None`` takes the step's lr. Weight decay
    belongs to the lower problem: step.decay is added to H. Momentum plays no part at an optimum.
    """

    twice = True

    terms: int = 5
    """products with the Hessian"""
    scale: float | None = None
    """size of the series' steps; the weights' learning rate by default"""

    def __post_init__(self) -> None:
        if self.terms < 0 or (self.scale is not None and not self.scale > 0):
            raise OcheError(f"terms={self.terms}, scale={self.scale} make no series; use terms >= 0 and scale > 0")

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        w, a = _fresh(w), _fresh(a)
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
