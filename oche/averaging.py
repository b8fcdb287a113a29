"""Averaged SGD that begins when validation stands still: NT-ASGD (1708.02182, algorithm 1).

SGD goes on as before, and from the trigger on the mean of the weights after each step is what is evaluated and kept. That is
`torch.optim.ASGD` with ``lambd=0, t0=0``, as the released code has it, but for two things: that optimiser uses a changed
learning rate one step late, while windows of varying length change it at every step, and it leaves the first step out of the
mean. So here plain SGD steps, and the mean is kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Trigger:
    """Fires when a loss is above the best of those more than ``patience`` evaluations ago (``patience`` = 5 published)."""

    def __init__(self, patience: int, losses: Sequence[float] = ()) -> None:
        self.patience, self.losses = patience, list(losses)

    def __call__(self, loss: float) -> bool:
        """Whether to begin averaging; ``loss`` is remembered."""
        old = self.losses[: -self.patience]
        self.losses.append(loss)
        return bool(old) and loss > min(old)


class Average:
    """The mean of weights after each `add`."""

    def __init__(self, weights: Sequence[Tensor], means: Sequence[Tensor] = (), count: int = 0) -> None:
        """``means`` and ``count``: to go on from."""
        self.count = count
        self.means = [torch.zeros_like(w, requires_grad=False) for w in weights]
        for mine, given in zip(self.means, means, strict=False):
            mine.copy_(given)

    @torch.no_grad()
    def add(self, weights: Sequence[Tensor]) -> None:
        self.count += 1
        for mean, weight in zip(self.means, weights, strict=True):
            mean.lerp_(weight, 1 / self.count)

    @contextmanager
    def in_place_of(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Within, ``weights`` hold their means (as long as there are any)."""
        if not self.count:
            yield
            return
        own = [w.detach().clone() for w in weights]
        copy_into(weights, self.means)
        try:
            yield
        finally:
            copy_into(weights, own)


@torch.no_grad()
def copy_into(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Overwrites ``weights``."""
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
