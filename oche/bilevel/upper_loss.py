"""The loss of the upper problem: the validation loss of a batch, with the cost of the network where it is part of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from oche.bilevel.state import SearchState
from oche.core.architecture import Mix
from oche.core.seeds import generator
from oche.devices.collectives import mean_over_ranks
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

    def draw(self, i: int, w: Tensors, a: Tensors, of: Literal["loss", "accuracy"]) -> Draw:
        """Return draw ``i`` of this step: its choices are those of noise of its own."""
        search, relax = self.search, self.search.method.relax
        noise: dict[str, Tensor] = {}
        for name, dag in search.groups.items():
            drawn = relax.noise(dag, len(search.space.candidates), generator(search.seed, "draws", name, self.step, i))
            assert drawn is not None  # a relaxation with a log_prob draws
            noise[name] = drawn.to(search.engine.device)
        with torch.no_grad():
            mixes = search.mixes(a, noise, self.progress)
            loss = self.objective.with_mixtures(w, mixes)
            loss = self._with_cost(-self._accuracy() if of == "accuracy" else loss, mixes)
        return Draw(loss, partial(self._log_prob, noise))

    def _log_prob(self, noise: Mapping[str, Tensor], a: Tensors) -> Tensor:
        """Return the logarithm () of the probability of the choices of ``noise`` in all groups."""
        search = self.search
        terms = [
            search.method.relax.log_prob(logits, search.alive[name], dag, noise[name])
            for (name, dag), logits in zip(search.groups.items(), a, strict=True)
        ]
        return torch.stack(terms).sum()

    def _accuracy(self) -> Tensor:
        """Return the accuracy () of the last call, over all processes."""
        right = (self.objective.logits.argmax(1) == self.objective.labels).to(self.objective.loss.dtype).mean()
        processes = self.search.engine.processes
        return mean_over_ranks(processes, right) if processes.is_distributed else right

    def _with_cost(self, loss: Tensor, mixes: Mapping[str, Mix]) -> Tensor:
        constraint = self.search.cost_constraint
        return loss if constraint is None else constraint.in_loss(loss, mixes, self.search.alive)
