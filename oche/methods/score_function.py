"""The score-function hypergradient (REINFORCE): for losses and costs that cannot be differentiated in the architecture.

With choices c drawn from P(c | a) and L(c) their loss::

    ∇_a E[L] = E[(L(c) − b) · ∇_a log P(c | a)]

for any baseline b that does not depend on c. It needs a relaxation that knows P (`Relaxation.log_prob`).

Shapes: S draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.hypergradients import HyperGradient, Loss, SgdStep, Tensors
from oche.spaces.base import Space

LogProb = Callable[[Tensors], Tensor]  # logits -> log P () of the choices of one draw


class Draw(NamedTuple):
    """One draw of an architecture."""

    loss: Tensor  #: (), a constant for the gradient
    log_prob: LogProb


class Sampled(Protocol):
    """An upper loss of which architectures can be drawn. `oche.bilevel.upper_loss.UpperLoss` is one."""

    def draw(self, i: int, w: Tensors, a: Tensors, of: Literal["loss", "accuracy"]) -> Draw:
        """Return draw ``i`` of this step, with its loss, or minus its accuracy in [0, 1]; the cost is included."""
        ...


def score_gradient(
    losses: Tensor, log_probs: Sequence[LogProb], a: Tensors, baseline: Literal["others", "none"] = "others"
) -> Tensors:
    """Return the estimate of ∇_a E[L] from S draws with ``losses`` (S,).

    ``baseline`` "others": the mean loss of the other draws, which keeps the estimate unbiased (Kool et al. 2019); "none": 0.
    """
    a = tuple(t.detach().requires_grad_() for t in a)
    count = len(losses)
    base = (losses.sum() - losses) / (count - 1) if baseline == "others" else torch.zeros_like(losses)
    weights = ((losses - base) / count).detach()
    total = torch.stack([w * log_prob(a) for w, log_prob in zip(weights, log_probs, strict=True)]).sum()
    return torch.autograd.grad(total, a, materialize_grads=True)


@component
@dataclass(frozen=True)
class ScoreFunction(HyperGradient):
    """REINFORCE on the validation batch, weights as they are (ProxylessNAS, 1812.00332 §3.3.2).

    Deviation 1: the baseline of a draw is the mean of the other draws of the step. The paper's is a moving mean over steps.

    Raises `OcheError` for fewer than 2 samples with a baseline.
    """

    draws = True

    samples: int = 10
    """architectures drawn in a step"""
    of: Literal["loss", "accuracy"] = "loss"
    """what is improved in expectation: the loss on the batch, or its accuracy, as published"""
    baseline: Literal["others", "none"] = "others"
    """what is subtracted from the loss of a draw: the mean of the others, or nothing"""
    entropy: float = 0.0
    """weight of log P(c | a) that is added to the loss of a draw, without a gradient: it keeps the distribution wide (ENAS)"""

    def __post_init__(self) -> None:
        least = 2 if self.baseline == "others" else 1
        if self.samples < least:
            raise OcheError(
                f"samples={self.samples} gives no estimate with baseline={self.baseline!r}; use samples >= {least}, published: 10"
            )
        if self.entropy < 0:
            raise OcheError(f"entropy={self.entropy} narrows the distribution; use entropy >= 0")

    def check_space(self, space: Space) -> None:
        """Raise `OcheError` if the accuracy is asked for and the networks of ``space`` have none."""
        if self.of == "accuracy" and space.domain != "images":
            raise OcheError(
                f"a reward by accuracy takes networks for images, and this space is one for {space.domain}; write "
                "hypergrad=ScoreFunction(of='loss')"
            )

    def __call__(self, inner: Loss, outer: Loss, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        del inner, step
        found = [cast(Sampled, outer).draw(i, w, a, self.of) for i in range(self.samples)]
        losses = torch.stack([d.loss for d in found])
        if self.entropy:
            with torch.no_grad():
                losses = losses + self.entropy * torch.stack([d.log_prob(a) for d in found])
        return score_gradient(losses, [d.log_prob for d in found], a, self.baseline)
