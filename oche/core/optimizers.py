"""The optimisers of weights and of architecture logits, with gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Any

import torch
from torch import Tensor

from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.schedules import Cosine, Schedule


@checked
@dataclass(frozen=True)
class Sgd:
    """SGD with momentum for the network weights. Its rate is annealed, by default by a cosine (1806.09055 §3.1.1).

    Raises `OcheError` for values that cannot train.
    """

    lr: float = 0.025
    """learning rate at the start, or after the warm-up"""
    lr_min: float = 0.0
    """learning rate at the end"""
    schedule: Schedule = Cosine()
    """how the rate goes from one to the other"""
    momentum: float = 0.9
    nesterov: bool = False
    """whether a step looks ahead along its momentum (Nesterov's); the look-ahead of a second-order search stays plain, as in the
    code of NAS-Bench-201"""
    decay: float = 3e-4
    """weight decay"""
    decay_norms: bool = True
    """whether weights of BatchNorms and biases decay, too (false in trainings only); published: they do"""
    clip: float = 5.0
    """largest norm of the whole gradient; 0: no clipping"""
    clip_ahead: bool = False
    """whether the look-ahead step of a second-order search is clipped, too; published: for language, not for images"""

    def __post_init__(self) -> None:
        if not 0 < self.lr < inf or not 0 <= self.lr_min <= self.lr:
            raise OcheError(f"lr={self.lr}, lr_min={self.lr_min} is not a schedule; use lr > 0 and 0 <= lr_min <= lr")
        if not (0 <= self.momentum < 1 and 0 <= self.decay < inf and 0 <= self.clip < inf):
            raise OcheError(
                f"momentum={self.momentum}, decay={self.decay}, clip={self.clip} cannot train; "
                "use 0 <= momentum < 1, decay >= 0, clip >= 0"
            )
        if self.nesterov and not self.momentum:
            raise OcheError("nesterov looks ahead along the momentum, and momentum=0 has none; use momentum > 0")
        if self.schedule.falling and not self.lr_min:
            raise OcheError(
                f"a rate that falls by a factor never reaches lr_min=0; with {self.schedule} use lr_min > 0"
            )

    def optimizer(self, weights: Iterable[Tensor], slow: Iterable[Tensor] = (), share: float = 1.0) -> torch.optim.SGD:
        """Return torch's SGD on ``weights``. Without ``decay_norms`` vectors (scales, shifts, biases) do not decay.

        The learning rate of the weights in ``slow`` is ``share`` times that of the others.
        """
        groups: list[dict[str, Any]] = [{"params": [*weights]}]
        if not self.decay_norms:
            vectors = [w for w in groups[0]["params"] if w.dim() <= 1]
            matrices = [w for w in groups[0]["params"] if w.dim() > 1]
            groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        if share != 1.0:
            groups = _split_slow(groups, {id(w) for w in slow}, share)
        # foreach: a supernet has more than a thousand small tensors, over which torch otherwise loops in Python on a CPU.
        # Not fused: that step mixes up elements if a gradient has other strides than its weight (torch 2.13).
        return torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, weight_decay=self.decay, nesterov=self.nesterov, foreach=True
        )

    def rate(self, progress: float) -> float:
        """Return the learning rate at ``progress`` in [0, 1]."""
        return self.schedule(self.lr, self.lr_min, progress)

    def update(self, optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], rate: float) -> None:
        """Clip the gradients in ``.grad`` and take one step.

        A weight whose gradient is None stays as it is: no decay, no momentum.
        """
        if self.clip:
            torch.nn.utils.clip_grad_norm_(weights, self.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        optimizer.step()


def _split_slow(groups: list[dict[str, Any]], slow: set[int], share: float) -> list[dict[str, Any]]:
    """Return ``groups`` with the weights whose id is in ``slow`` in groups of their own, whose learning rate has a ``share``."""
    split = []
    for group in groups:
        parts = [w for w in group["params"] if id(w) not in slow], [w for w in group["params"] if id(w) in slow]
        split += [
            {**group, "params": part, **own} for part, own in zip(parts, ({}, {"share": share}), strict=True) if part
        ]
    return split


@component
@dataclass(frozen=True)
class Adam:
    """Adam for the architecture logits (1806.09055 §3.1.1). Raises `OcheError` for values that cannot train."""

    lr: float = 3e-4
    """learning rate"""
    betas: tuple[float, float] = (0.5, 0.999)
    decay: float = 1e-3
    """weight decay"""
    init: float = 1e-3
    """logits start at this times N(0, 1)"""

    def __post_init__(self) -> None:
        fits = 0 < self.lr < inf and 0 <= self.decay < inf and 0 <= self.init < inf
        if not fits or not all(0 <= b < 1 for b in self.betas):
            raise OcheError(
                f"lr={self.lr}, betas={self.betas}, decay={self.decay}, init={self.init} cannot train; "
                "use lr > 0, 0 <= betas < 1, decay >= 0, init >= 0"
            )

    def optimizer(self, logits: Iterable[Tensor]) -> torch.optim.Adam:
        """Return torch's Adam on ``logits``."""
        return torch.optim.Adam(logits, lr=self.lr, betas=self.betas, weight_decay=self.decay)


@component
@dataclass(frozen=True)
class ExponentiatedGradient:
    """Exponentiated gradient for the architecture logits (GAEA, 2004.07802 §3): mirror descent on the simplices of the weights.

    Let theta be the softmax of the logits a over each simplex, and g = ∇_theta of the loss. One step is::

        theta <- theta · exp(−lr · g) / its sum,   that is   a <- log softmax(log theta − lr · (∇_a / theta))

    because ∇_a = theta · (g − mean of g under theta), and a constant on a simplex cancels in the quotient. It works with
    every relaxation whose weights lie on simplices (`oche.methods.relaxations.Relaxation.simplices`).

    Deviation 1 from the released code, which clips weights from below before it has normalised them: they are clipped after.
    Deviation 2: edge weights are clipped and decay like the others.
    """

    lr: float = 0.1
    """learning rate; published: 0.1"""
    decay: float = 0.0
    """weight of the entropic regulariser sum of theta · log theta, which pulls towards uniform weights"""
    floor: float = 1e-5
    """weights are kept at least about this large, so that no candidate is lost for good"""
    init: float = 0.0
    """logits start at this times N(0, 1); published: uniform weights"""

    def __post_init__(self) -> None:
        fits = 0 < self.lr < inf and 0 <= self.decay < inf and 0 <= self.init < inf
        if not fits or not 0 <= self.floor < 1:
            raise OcheError(
                f"lr={self.lr}, decay={self.decay}, floor={self.floor}, init={self.init} cannot train; "
                "use lr > 0, decay >= 0, 0 <= floor < 1, init >= 0"
            )

    def optimizer(self, logits: Iterable[Tensor]) -> MirrorDescent:
        """Return the optimiser on ``logits``."""
        return MirrorDescent(logits, lr=self.lr, decay=self.decay, floor=self.floor)


class MirrorDescent(torch.optim.Optimizer):
    """The torch optimiser of `ExponentiatedGradient`.

    The key "simplices" of a parameter group holds, for each of its tensors, an int64 CPU tensor of the same shape: the
    number of the simplex of each entry, −1 for entries that stay fixed. Without the key every row is a simplex.
    """

    def __init__(self, logits: Iterable[Tensor], *, lr: float, decay: float, floor: float) -> None:
        super().__init__(logits, dict(lr=lr, decay=decay, floor=floor))
        self.largest = torch.zeros(())  # largest change of the logarithm of a weight in the last step

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step. Tensors without a gradient stay as they are."""
        changes = []
        for group in self.param_groups:
            simplices = group.get("simplices") or [_one_simplex_per_row(a) for a in group["params"]]
            for a, simplex in zip(group["params"], simplices, strict=True):
                if a.grad is not None:
                    alive = (simplex >= 0).to(a.device)
                    moved = _mirror_step(a, a.grad, simplex, group["lr"], group["decay"], group["floor"])
                    changes.append((moved - _log_softmax(a, simplex)).abs().masked_fill(~alive, 0).max())
                    a.copy_(torch.where(alive, moved, a))
        if changes:
            self.largest = torch.stack(changes).max()


def largest_logit_step(optimizer: torch.optim.Optimizer) -> Tensor | float:
    """Return how far a logit can move in one step.

    For mirror descent this is the largest move of the last step, for Adam the learning rate.
    """
    return optimizer.largest if isinstance(optimizer, MirrorDescent) else optimizer.param_groups[0]["lr"]


def _one_simplex_per_row(a: Tensor) -> Tensor:
    """Return simplex numbers that make each row of ``a`` a simplex."""
    return torch.arange(len(a)).view(-1, *[1] * (a.dim() - 1)).expand(a.shape)


def _mirror_step(a: Tensor, gradient: Tensor, simplex: Tensor, lr: float, decay: float, floor: float) -> Tensor:
    """Return the logarithms of the weights after one step. The weights of each simplex sum to 1."""
    logs = _log_softmax(a, simplex)
    theta = logs.exp()
    slope = torch.where(theta > 0, gradient / theta, 0) + decay * logs
    moved = _log_softmax(logs - lr * slope, simplex)
    return _log_softmax(moved.clamp_min(log(floor)), simplex) if floor else moved


def _log_softmax(a: Tensor, simplex: Tensor) -> Tensor:
    """Return the log softmax of ``a`` over the entries with the same number in ``simplex``, wherever they are."""
    index = (simplex.flatten() + 1).to(a.device)
    size, flat = int(simplex.max()) + 2, a.flatten()
    highest = flat.new_full((size,), -inf).scatter_reduce(0, index, flat, "amax")
    shifted = flat - highest[index]
    sums = flat.new_zeros(size).scatter_add(0, index, shifted.exp())
    return (shifted - sums.log()[index]).view_as(a)


_KINDS = {
    "momentum",
    "betas",
    "floor",
}  # settings that tell SGD, Adam and mirror descent apart, in every version of torch


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore the ``state`` of a checkpoint. Raises `OcheError` for the state of another kind of optimizer."""
    own, kept = (_KINDS & {*found["param_groups"][0]} for found in (optimizer.state_dict(), state))
    if own != kept:
        raise OcheError(
            f"the checkpoint holds the state of another optimizer than {type(optimizer).__name__}, which the configuration "
            "asks for; write the old one back into config.yaml, or start anew"
        )
    optimizer.load_state_dict(state)
