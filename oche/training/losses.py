"""The losses of a search: deterministic functions of weights and architecture, with batch and noise fixed.

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
    """Within, BatchNorms in training mode normalise by the batch and do not update their running statistics.

    Deviation 1 from the published code, whose architecture steps update them too: they belong to the weights.
    """
    norms = [m for m in iter_modules(net) if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    states = [vars(m) for m in norms if m.training]  # in evaluation mode they are not updated
    for state in states:
        state["track_running_stats"] = False  # setattr on a module is slow: a thousand calls a step
    try:
        yield
    finally:
        for state in states:
            state["track_running_stats"] = True


@dataclass
class Objective:
    """(w, a) → cross-entropy of one batch of images, a scalar. ``logits`` and ``loss`` are those of the last call.

    ``own`` are the weights of ``net``; ``names`` maps every parameter name to its index in ``own``. ``mix`` maps
    logits a to mixtures, with fixed noise and progress. With several ``processes`` the loss is that of all their
    images together; ``images`` and ``logits`` are this process's own, and gradients of any order are those of the
    whole batch.
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
        """Return the loss as a function of weights and mixtures."""
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
        """Return the tensors that the loss reads besides weights and logits, by name."""
        return {"images": self.images, "labels": self.labels}

    def with_inputs(self, mix: Callable[[Tensors], Mixes], tensors: Mapping[str, Tensor]) -> Objective:
        """Return the same loss of other `input_tensors` and another ``mix``."""
        return replace(self, mix=mix, **tensors)

    def carried_tensors(self) -> dict[str, Tensor]:
        """Return the `input_tensors` that the next batch of the stream receives. Images have none."""
        return {}

    def set_carried(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the carried tensors to ``tensors``, which were computed elsewhere."""

    def add_to(self, meter: Meter) -> None:
        """Add the last loss and logits to ``meter``."""
        meter.add(self.logits, self.labels, self.loss)


class NetworkWithWeights(Protocol):
    """A network, its weights, and the index of every parameter name among them (see `names`)."""

    net: nn.Module
    names: Mapping[str, int]
    own: Tensors


def names(net: nn.Module) -> dict[str, int]:
    """Return, for every parameter name of ``net``, the parameter's index in ``net.parameters()``.

    A shared parameter has several names.
    """
    place = {parameter: i for i, parameter in enumerate(net.parameters())}
    return {
        f"{prefix}.{name}" if prefix else name: place[parameter]
        for prefix, module in net.named_modules()  # each module once, though it may have several names
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    }


def forward(of: NetworkWithWeights, w: Tensors, *inputs: Any) -> Any:
    """Return the output of the network ``of`` for ``inputs``, with weights ``w``."""
    if w is of.own:
        return of.net(*inputs)
    # `w` has all names, so torch need not look for shared parameters, which takes longer than the rest of this call.
    return functional_call(of.net, {name: w[i] for name, i in of.names.items()}, inputs, tie_weights=False)
