"""The losses of a search: deterministic functions of weights and architecture, their batch and their noise fixed.

Shapes: B images, E edges of a cell, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from oche.core.architecture import Mix
from oche.core.metrics import Meter
from oche.devices.collectives import mean, spread, spread_mixes
from oche.devices.mixed_precision import Precision, computing
from oche.devices.process_group import ALONE, Ranks
from oche.methods.hypergradients import Tensors
from oche.networks.walk import walk

Mixes = dict[str, Mix]


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Within, BatchNorms in training mode normalise by the batch without moving their running statistics.

    Deviation 1 from the published code, whose architecture steps move them too: they belong to the weights.
    """
    norms = [m for m in walk(net) if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    states = [vars(m) for m in norms if m.training]  # in evaluation the statistics are used, and do not move
    for state in states:
        state["track_running_stats"] = False  # nn.Module would look whether that is a tensor, a thousand times a step
    try:
        yield
    finally:
        for state in states:
            state["track_running_stats"] = True


@dataclass
class Objective:
    """(w, a) → cross-entropy of one batch of images. ``logits`` and ``loss`` are those last computed.

    ``net`` with its own weights ``own``; ``names``: where each stands there, by all of its names; ``mix`` makes mixtures
    of logits a, their noise and progress fixed. Over several ``ranks`` the batch is that of all of them, ``images`` and
    ``logits`` are this one's, and gradients of any order are those of the whole.
    """

    net: nn.Module
    names: Mapping[str, int]
    own: Tensors
    mix: Callable[[Tensors], Mixes]
    images: Tensor
    labels: Tensor
    ranks: Ranks = ALONE
    precision: Precision = "float32"
    logits: Tensor = field(init=False, repr=False)
    loss: Tensor = field(init=False, repr=False)

    def __call__(self, w: Tensors, a: Tensors) -> Tensor:
        return self.under(w, self.mix(a))

    def under(self, w: Tensors, mixes: Mapping[str, Mix]) -> Tensor:
        """The same as a function of the mixtures themselves."""
        if self.ranks.several:
            w, mixes = spread(self.ranks, w), spread_mixes(self.ranks, mixes)
        with computing(self.precision, self.images.device):
            logits = forward(self, w, self.images, mixes)
        logits = logits.to(self.images.dtype)
        loss = F.cross_entropy(logits, self.labels)
        if self.ranks.several:
            loss = mean(self.ranks, loss)
        self.logits, self.loss = logits.detach(), loss.detach()
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """What it takes from outside."""
        return {"images": self.images, "labels": self.labels}

    def on(self, mix: Callable[[Tensors], Mixes], tensors: Mapping[str, Tensor]) -> Objective:
        """The same of other `tensors`."""
        return replace(self, mix=mix, **tensors)

    def left(self) -> dict[str, Tensor]:
        """What it leaves, in the place of some of its `tensors`, to the next batch: of images nothing."""
        return {}

    def leave(self, tensors: Mapping[str, Tensor]) -> None:
        """Has it leave what ``tensors`` hold, computed elsewhere."""

    def count(self, meter: Meter) -> None:
        """Adds what was last computed to ``meter``."""
        meter.add(self.logits, self.labels, self.loss)


class Weighed(Protocol):
    """A network, its own weights, and where each stands among them by all of its names (see `names`)."""

    net: nn.Module
    names: Mapping[str, int]
    own: Tensors


def names(net: nn.Module) -> dict[str, int]:
    """Where among ``net.parameters()`` the parameter of every name stands; one that is shared has several names."""
    place = {parameter: i for i, parameter in enumerate(net.parameters())}
    return {
        f"{prefix}.{name}" if prefix else name: place[parameter]
        for prefix, module in net.named_modules()  # each once, by whatever names it goes: it holds a parameter once
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    }


def forward(of: Weighed, w: Tensors, *inputs: Any) -> Any:
    """The network of ``of`` at ``inputs``, with weights ``w``."""
    if w is of.own:
        return of.net(*inputs)
    # All names are there: looking for shared parameters takes torch longer than all the rest of this.
    return functional_call(of.net, {name: w[i] for name, i in of.names.items()}, inputs, tie_weights=False)
