"""The loss of the upper problem: the validation loss of a batch, with the cost of the network where it is part of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor

from oche.bilevel.state import SearchState
from oche.core.architecture import Mix
from oche.methods.hypergradients import Tensors
from oche.methods.score_function import Draw


@dataclass(frozen=True)
class UpperLoss:
    """(w, a) → the loss () that the architecture descends, for one validation batch. A `Sampled` loss."""

    search: SearchState
    objective: Any
    """the loss of the batch, an `oche.training.losses.Objective` or that of text"""
    progress: float
    """of the stage; temperatures of draws follow it"""
    step: int
    """numbers the draws"""

    def __call__(self, w: Tensors, a: Tensors) -> Tensor:
        mixes = self.objective.mix(a)
        return self._with_cost(self.objective.with_mixtures(w, mixes), mixes)

    def draw(self, i: int, w: Tensors, a: Tensors, of: Literal["loss", "reward"]) -> Draw:
        """Return draw ``i`` of this step: its choices are those of noise of its own."""
        noise = self.search.draw_noise("draws", self.step, i)
        with torch.no_grad():
            mixes = self.search.mixes(a, noise, self.progress)
            loss = self.objective.with_mixtures(w, mixes)
            loss = self._with_cost(-self.objective.reward() if of == "reward" else loss, mixes)
        return Draw(loss, partial(self._log_prob, noise))

    def _log_prob(self, noise: Mapping[str, Tensor | None], a: Tensors) -> Tensor:
        """Return the logarithm () of the probability of the choices of ``noise`` in all groups."""
        search = self.search
        terms = [
            search.method.relax.log_prob(logits, search.alive[name], dag, cast(Tensor, noise[name]))
            for (name, dag), logits in zip(search.groups.items(), a, strict=True)
        ]
        return torch.stack(terms).sum()

    def _with_cost(self, loss: Tensor, mixes: Mapping[str, Mix]) -> Tensor:
        constraint = self.search.cost_constraint
        return loss if constraint is None else constraint.in_loss(loss, mixes, self.search.alive)
