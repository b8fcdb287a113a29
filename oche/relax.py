"""Relaxations: from logits to a mixture (design: the mixture is an input of the network's forward, noise is data).

Shapes: E edges of a cell, O candidates; logits a (E, O), mask alive (E, O), weights (E, O).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .arch import Dag, Mix, active
from .registry import component


@dataclass(frozen=True)
class Relaxation:
    """A pure function of logits, mask, noise and progress. Dead candidates get weight exactly 0 and no gradient."""

    def init(self, dag: Dag, candidates: int, scale: float, generator: torch.Generator) -> Tensor:
        """Logits (E, O) to start from: ``scale`` · N(0, 1), as the published code (1e-3), or zeros (the seed)."""
        return scale * torch.randn(len(dag), candidates, generator=generator)

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor | None:
        """What one evaluation draws; None for a deterministic relaxation. It travels with the batch."""
        return None

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        raise NotImplementedError


def masked_softmax(logits: Tensor, alive: Tensor) -> Tensor:
    """Softmax over the last axis among living entries; rows without any are 0. logits, alive: (..., O)."""
    alive = alive.to(logits.device)
    empty = ~alive.any(-1, keepdim=True)
    weights = logits.masked_fill(~alive & ~empty, -torch.inf).softmax(-1)
    return weights.masked_fill(empty, 0)


@component
@dataclass(frozen=True)
class Softmax(Relaxation):
    """DARTS (1806.09055 eq. 2): w[e, o] = exp(a[e, o]) / sum over living o' of exp(a[e, o'])."""

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        return Mix(masked_softmax(a, alive), None, active(alive))
