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
from oche.devices.collectives import copy_mixes_to_ranks, copy_to_ranks, mean_over_ranks
from oche.devices.mixed_precision import Precision, precision_context
from oche.devices.process_group import SINGLE_PROCESS, ProcessGroup
from oche.methods.hypergradients import Tensors
from oche.networks.modules import iter_modules

Mixes = dict[str, Mix]


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Within, BatchNorms in training mode normalise by the batch without moving their running statistics.

    Deviation 1 from the published code, whose architecture steps move them too: they belong to the weights.
    """
    norms = [m for m in iter_modules(net) if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
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
    of logits a, their noise and progress fixed. Over several ``processes`` the batch is that of all of them, ``images`` and
    ``logits`` are this one's, and gradients of any order are those of the whole.
    """

    net: nn.Module
    names: Mapping[str, int]
    own: Tensors
    mix: Callable[[Tensors], Mixes]
    images: Tensor
    labels: Tensor
    processes: ProcessGroup = SINGLE_PROCESS
    precision: Precision = "float32"
    logits: Tensor = field(init=False, repr=False)
    loss: Tensor = field(init=False, repr=False)

    def __call__(self, w: Tensors, a: Tensors) -> Tensor:
        return self.with_mixtures(w, self.mix(a))

    def with_mixtures(self, w: Tensors, mixes: Mapping[str, Mix]) -> Tensor:
        """The same as a function of the mixtures themselves."""
        if self.processes.is_distributed:
            w, mixes = copy_to_ranks(self.processes, w), copy_mixes_to_ranks(self.processes, mixes)
        with precision_context(self.precision, self.images.device):
            logits = forward(self, w, self.images, mixes)
        logits = logits.to(self.images.dtype)
        loss = F.cross_entropy(logits, self.labels)
        if self.processes.is_distributed:
            loss = mean_over_ranks(self.processes, loss)
        self.logits, self.loss = logits.detach(), loss.detach()
        return loss

    def input_tensors(self) -> dict[str, Tensor]:
        """What it takes from outside."""
        return {"images": self.images, "labels": self.labels}

    def with_inputs(self, mix: Callable[[Tensors], Mixes], tensors: Mapping[str, Tensor]) -> Objective:
        """The same of other `input_tensors`."""
        return replace(self, mix=mix, **tensors)

    def carried_tensors(self) -> dict[str, Tensor]:
        """What it leaves, in the place of some of its `input_tensors`, to the next batch: of images nothing."""
        return {}

    def set_carried(self, tensors: Mapping[str, Tensor]) -> None:
        """Has it leave what ``input_tensors`` hold, computed elsewhere."""

    def add_to(self, meter: Meter) -> None:
        """Adds what was last computed to ``meter``."""
        meter.add(self.logits, self.labels, self.loss)


class NetworkWithWeights(Protocol):
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


def forward(of: NetworkWithWeights, w: Tensors, *inputs: Any) -> Any:
    """The network of ``of`` at ``inputs``, with weights ``w``."""
    if w is of.own:
        return of.net(*inputs)
    # All names are there: looking for shared parameters takes torch longer than all the rest of this.
    return functional_call(of.net, {name: w[i] for name, i in of.names.items()}, inputs, tie_weights=False)
