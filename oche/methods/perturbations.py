"""Perturbations: mixtures under which the weights train, so that they do well around the architecture and not only at it.

Shapes: E edges of a cell, O candidates; weights of a mixture (E, O).
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
    """A pure function: mixtures near ``mixes``, detached. Candidates that are not active keep weight 0."""

    def __call__(self, objective: Objective, mixes: Mixes, progress: float, generator: torch.Generator) -> Mixes:
        """``objective`` must leave BatchNorm's running statistics alone: it is asked about points that are not trained at."""
        raise NotImplementedError


@dataclass(frozen=True)
class Smooth(Perturb):
    """Base of SDARTS (2002.05283): candidate weights move by up to eps each and are then made weights of a mixture again.

    That is, as in the released code, clipped to [0, 1] and divided by the sum of their row; a row clipped to nothing becomes
    its largest candidate. So weights may end further than eps from where they were. Edge weights stay.

    Deviation 1: rows are scaled to the sum that they had, not to 1, so that mixtures other than a softmax are left in their
    scale (a sigmoid's rows, a node's softmax); for a softmax the two are the same.
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
    """SDARTS-ADV (2002.05283): weights of the mixture that raise L_train most, by projected gradient ascent.

    From a random start as `RandomNoise` draws it, each step moves every weight by 2 eps / steps in the direction of its
    gradient's sign, back into the eps-ball around the mixture, and back to a mixture. Costs steps + 2 evaluations.

    Deviation 3: the worst of all points seen is taken, the unperturbed one among them, so that the loss is never below the
    unperturbed loss; the released code takes the last point, or the unperturbed one if that is worse.
    Deviation 4: BatchNorms normalise as the objective has them do; there, by running statistics.
    """

    steps: int = 7
    """steps of the ascent"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise OcheError(f"Adversarial: steps={self.steps} climbs nowhere; use steps >= 1, published: 7")

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
        worst = torch.stack(losses).nan_to_num(-torch.inf, torch.inf).argmax()  # of equals the first: unperturbed
        return _detached(mixes, points[int(worst)])


@torch.no_grad()
def _value(loss: Callable[[dict[str, Tensor]], Tensor], ops: dict[str, Tensor]) -> Tensor:
    return loss(ops).detach()


def _slopes(loss: Callable[[dict[str, Tensor]], Tensor], ops: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient of ``loss`` at ``ops`` and its value."""
    with torch.enable_grad():
        leaves = {name: w.clone().requires_grad_() for name, w in ops.items()}
        value = loss(leaves)
        slopes = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True)), value.detach()


def _noisy(ops: dict[str, Tensor], eps: float, generator: torch.Generator) -> dict[str, Tensor]:
    """``ops`` plus uniform draws from [-eps, eps]; as many draws whatever lives."""

    def draw(w: Tensor) -> Tensor:
        unit = torch.rand(w.shape, dtype=w.dtype, generator=generator, device=generator.device)
        return eps * (2 * unit - 1).to(w.device)

    return {name: w + draw(w) for name, w in ops.items()}


def _mixture(w: Tensor, mix: Mix) -> Tensor:
    """``w`` (E, O) clipped to [0, 1] among the active candidates of ``mix``, each row scaled to the sum it has in ``mix``."""
    rows = [[o in on for o in range(w.shape[1])] for on in mix.active]
    living = torch.tensor(rows, device=w.device)
    clipped = w.clamp(0, 1).masked_fill(~living, 0)
    largest = torch.zeros_like(w).scatter(1, w.masked_fill(~living, -torch.inf).argmax(1, keepdim=True), 1.0)
    clipped = torch.where(clipped.sum(1, keepdim=True) > 0, clipped, largest * living)
    total = clipped.sum(1, keepdim=True)
    return clipped / total.masked_fill(total == 0, 1) * mix.ops.detach().sum(1, keepdim=True)


def _detached(mixes: Mixes, ops: dict[str, Tensor]) -> Mixes:
    """``mixes`` with candidate weights ``ops``; edge weights outside the graph."""
    return {
        name: mix._replace(ops=ops[name], edges=None if mix.edges is None else mix.edges.detach())
        for name, mix in mixes.items()
    }
