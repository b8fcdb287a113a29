"""Perturbations of the mixture under which the weights train, so that they do well around the architecture, not only at it.

Shapes: E edges of a cell, O candidate operations; weights of a mixture (E, O).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from oche.core.architecture import Mix
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.schedules import check_ends, linear

Mixes = dict[str, Mix]
Objective = Callable[[Mixes], Tensor]  # scalar L_train at the weights as they are; differentiable in mix.ops


@dataclass(frozen=True)
class Perturb:
    """A pure function from mixtures to nearby mixtures, detached from the graph. Candidates that are not active keep weight
    0.
    """

    def __call__(self, objective: Objective, mixes: Mixes, progress: float, generator: torch.Generator) -> Mixes:
        """Return the mixtures to train under, one for each group of edges.

        ``objective`` is the training loss () at the current weights, a function of the mixtures. It is evaluated at points
        that are not trained at, so it must not update BatchNorm's running statistics. ``progress`` in [0, 1] is that of the
        stage.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Smooth(Perturb):
    """Base of SDARTS (2002.05283): the weight of each candidate moves by up to eps; then each row is made a mixture again.

    As in the released code, a row is clipped to [0, 1] and divided by its sum; a row clipped to zeros becomes its largest
    candidate. So a weight may end further than eps from its start. Edge weights do not move.

    Deviation 1: a row is scaled to the sum it had, not to 1, so that other mixtures than a softmax keep their scale (a
    sigmoid's rows, a node's softmax). For a softmax the two are the same.

    Deviation 2: eps grows with every step, not with every epoch.
    """

    eps: tuple[float, float] = (0.03, 0.3)
    """largest change of a candidate's weight at the start and at the end, linear in between"""

    def __post_init__(self) -> None:
        check_ends("eps", self.eps, positive=False)


@component
@dataclass(frozen=True)
class RandomNoise(Smooth):
    """SDARTS-RS (2002.05283): every weight moves by a draw from the uniform distribution on [-eps, eps]."""

    def __call__(self, objective: Objective, mixes: Mixes, progress: float, generator: torch.Generator) -> Mixes:
        ops = {name: mix.ops.detach() for name, mix in mixes.items()}
        moved = _noisy(ops, linear(self.eps, progress), generator)
        return _detached(mixes, {name: _mixture(w, mixes[name]) for name, w in moved.items()})


@component
@dataclass(frozen=True)
class Adversarial(Smooth):
    """SDARTS-ADV (2002.05283): the weights that raise the training loss most, found by projected gradient ascent.

    The ascent starts at random, as `RandomNoise` draws. Each step moves every weight by 2 eps / steps in the direction of
    its gradient's sign, then back into the eps-ball around the mixture, then back to a mixture. The objective is evaluated
    steps + 2 times.

    Deviation 3: the worst of all points evaluated is taken, including the unperturbed one, so the loss is never below the
    unperturbed loss. The released code takes the last point, or the unperturbed one if that is worse.

    Deviation 4: BatchNorms normalise as the objective sets them. In the released code they use running statistics.

    Raises `OcheError` unless steps >= 1.
    """

    steps: int = 7
    """steps of the ascent"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise OcheError(
                f"Adversarial: steps={self.steps} takes no step of the ascent; use steps >= 1, published: 7"
            )

    def __call__(self, objective: Objective, mixes: Mixes, progress: float, generator: torch.Generator) -> Mixes:
        eps = linear(self.eps, progress)
        centre = {name: mix.ops.detach() for name, mix in mixes.items()}

        def loss(ops: dict[str, Tensor]) -> Tensor:
            return objective(_detached(mixes, ops))

        def climb(name: str, w: Tensor, slope: Tensor) -> Tensor:
            moved = w + 2 * eps / self.steps * slope.sign()
            return _mixture(moved.clamp(centre[name] - eps, centre[name] + eps), mixes[name])

        ops = {name: _mixture(w, mixes[name]) for name, w in _noisy(centre, eps, generator).items()}
        points, losses = [centre], [_value(loss, centre)]
        for _ in range(self.steps):
            slopes, value = _slopes(loss, ops)
            points, losses = [*points, ops], [*losses, value]
            ops = {name: climb(name, w, slopes[name]) for name, w in ops.items()}
        points, losses = [*points, ops], [*losses, _value(loss, ops)]
        worst = (
            torch.stack(losses).nan_to_num(-torch.inf, torch.inf).argmax()
        )  # ties go to the first, the unperturbed point
        return _detached(mixes, points[int(worst)])


@torch.no_grad()
def _value(loss: Callable[[dict[str, Tensor]], Tensor], ops: dict[str, Tensor]) -> Tensor:
    """Return ``loss`` at ``ops`` without a graph."""
    return loss(ops).detach()


def _slopes(loss: Callable[[dict[str, Tensor]], Tensor], ops: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Return the gradient of ``loss`` at ``ops``, and its value."""
    with torch.enable_grad():
        leaves = {name: w.clone().requires_grad_() for name, w in ops.items()}
        value = loss(leaves)
        slopes = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True)), value.detach()


def _noisy(ops: dict[str, Tensor], eps: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Return ``ops`` plus uniform draws from [-eps, eps]. The number of draws does not depend on the mask."""

    def draw(w: Tensor) -> Tensor:
        unit = torch.rand(w.shape, dtype=w.dtype, generator=generator, device=generator.device)
        return eps * (2 * unit - 1).to(w.device)

    return {name: w + draw(w) for name, w in ops.items()}


def _mixture(w: Tensor, mix: Mix) -> Tensor:
    """Return ``w`` (E, O) clipped to [0, 1] on the active candidates of ``mix``, each row scaled to the sum it has in
    ``mix``.
    """
    rows = [[o in on for o in range(w.shape[1])] for on in mix.active]
    living = torch.tensor(rows, device=w.device)
    clipped = w.clamp(0, 1).masked_fill(~living, 0)
    largest = torch.zeros_like(w).scatter(1, w.masked_fill(~living, -torch.inf).argmax(1, keepdim=True), 1.0)
    clipped = torch.where(clipped.sum(1, keepdim=True) > 0, clipped, largest * living)
    total = clipped.sum(1, keepdim=True)
    return clipped / total.masked_fill(total == 0, 1) * mix.ops.detach().sum(1, keepdim=True)


def _detached(mixes: Mixes, ops: dict[str, Tensor]) -> Mixes:
    """Return ``mixes`` with the candidate weights ``ops``, and edge weights outside the graph."""
    return {
        name: mix._replace(ops=ops[name], edges=None if mix.edges is None else mix.edges.detach())
        for name, mix in mixes.items()
    }
