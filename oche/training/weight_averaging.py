"""Averages of weights: averaged SGD that starts when validation stops improving, and exponential moving averages.

NT-ASGD (1708.02182, algorithm 1): SGD continues unchanged, and from the trigger on the mean of the weights after each
step is evaluated and kept. The released code uses `torch.optim.ASGD` with ``lambd=0, t0=0``. That optimiser applies a
changed learning rate one step late, although windows of varying length change it at every step, and it leaves the
first step out of the mean. Therefore plain SGD steps here, and the mean is kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class NonMonotonicTrigger:
    """Fires when a loss exceeds the best of those more than ``patience`` evaluations ago (published: ``patience`` = 5)."""

    def __init__(self, patience: int, losses: Sequence[float] = ()) -> None:
        self.patience, self.losses = patience, list(losses)

    def __call__(self, loss: float) -> bool:
        """Return whether to start averaging, and remember ``loss``."""
        old = self.losses[: -self.patience]
        self.losses.append(loss)
        return bool(old) and loss > min(old)


class WeightAverage:
    """The mean of weights after each `update`."""

    def __init__(self, weights: Sequence[Tensor], means: Sequence[Tensor] = (), count: int = 0) -> None:
        """``means`` and ``count``: continue from these."""
        self.count = count
        self.means = [torch.zeros_like(w, requires_grad=False) for w in weights]
        for mine, given in zip(self.means, means, strict=False):
            mine.copy_(given)

    def count_step(self) -> float:
        """Count one more step, and return the share of its weights in the mean."""
        self.count += 1
        return self.share(self.count)

    @torch.no_grad()
    def update(self, weights: Sequence[Tensor], share: Any) -> None:
        """Move the mean towards ``weights`` by ``share``, a number or a tensor."""
        for mean, weight in zip(self.means, weights, strict=True):
            mean.lerp_(weight, share)

    def share(self, count: int) -> float:
        """Return the share of the weights of step ``count``, counted from 1, in the mean."""
        return 1 / count

    @contextmanager
    def swapped_in(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Within, ``weights`` hold their means, if there are any."""
        if not self.count:
            yield
            return
        originals = [w.detach().clone() for w in weights]
        copy_into(weights, self.means)
        try:
            yield
        finally:
            copy_into(weights, originals)


class MovingWeightAverage(WeightAverage):
    """The exponential moving average: after each step it is decay · mean + (1 − decay) · weights.

    As in TensorFlow, a young average forgets faster: its decay is at most (1 + n) / (10 + n) after n steps beyond the
    first.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        super().__init__(weights)
        self.decay = decay

    def share(self, count: int) -> float:
        return 1 - min(self.decay, (count - 1) / (count + 8)) if count > 1 else 1.0

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "means": list(self.means)}

    def load(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        copy_into(self.means, state["means"])


def averaged_tensors(net: nn.Module) -> list[Tensor]:
    """Return the tensors to average: weights, and the running statistics of BatchNorms, which belong to them."""
    return [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]


@torch.no_grad()
def copy_into(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Overwrite ``weights`` by ``values``."""
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
