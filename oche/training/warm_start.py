"""Warm start: begin a training with the weights of a network that was trained before.

Weights are taken by name and shape. What differs starts anew: other widths or operations, and the classifier, unless both
networks have the same classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.core.finite import describe_not_finite

_COLOURS = 3  # channels of a stem that can be summed for grey images


@dataclass(frozen=True)
class WarmStart:
    """Tensors by name, taken from ``source`` for a network, and what starts anew. `plan_warm_start` makes it."""

    source: str
    tensors: Mapping[str, Tensor]
    new: tuple[str, ...]
    """names of the network's tensors that start anew"""

    @property
    def taken(self) -> int:
        """Number of weights and statistics that are taken."""
        return sum(t.numel() for t in self.tensors.values())

    def describe(self, net: nn.Module) -> str:
        """Return one line for people: how many weights of ``net`` are taken, and which parts start anew."""
        whole = sum(t.numel() for t in net.state_dict().values() if t.is_floating_point())
        anew = ", ".join(dict.fromkeys(name.rsplit(".", 1)[0] for name in self.new))
        shown = anew if len(anew) <= 120 else f"{anew[:117]}..."
        return f"{100 * self.taken / whole:.0f} % of the weights come from {self.source}; new: {shown or 'none'}"

    def load_into(self, net: nn.Module) -> None:
        """Copy the tensors into ``net``, whose device and memory format stay."""
        own = net.state_dict()
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                own[name].copy_(tensor)


def plan_warm_start(net: nn.Module, given: Mapping[str, Tensor], source: str, same_classes: bool) -> WarmStart:
    """Return which tensors of ``net`` are taken from ``given``, a state dict of the network ``source``.

    A stem for colour images is summed over its colours if ``net`` takes grey images: that is its output on grey colours.
    The last layer, the classifier, is taken only with ``same_classes``.

    Raises `OcheError` if nothing can be taken, or if a tensor that would be taken is not finite.
    """
    own = net.state_dict()
    names = [name for name, t in own.items() if t.is_floating_point()]
    classifier = {
        f"{name}.{part}" for name, m in net.named_modules() if m is _last_linear(net) for part in ("weight", "bias")
    }
    taken: dict[str, Tensor] = {}
    for name in names:
        if name not in given or (name in classifier and not same_classes):
            continue
        tensor = _fitting(given[name], own[name].shape)
        if tensor is None:
            continue
        if broken := describe_not_finite({name: tensor}):
            raise OcheError(f"{source} cannot start a training: {broken}; give another network")
        taken[name] = tensor
    if not taken:
        raise OcheError(
            f"no weight of {source} fits the network (names and sizes differ); train its cells and channels, or leave init out"
        )
    return WarmStart(source, taken, tuple(name for name in names if name not in taken))


def _last_linear(net: nn.Module) -> nn.Module | None:
    """Return the last linear layer outside an auxiliary tower: the classifier."""
    found = [m for name, m in net.named_modules() if isinstance(m, nn.Linear) and not name.startswith("auxiliary")]
    return found[-1] if found else None


def _fitting(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """Return ``tensor`` in ``shape``, summed over colours if the network takes grey images; None if it does not fit."""
    if tensor.shape == shape:
        return tensor
    if tensor.dim() == 4 and shape == (tensor.shape[0], 1, *tensor.shape[2:]) and tensor.shape[1] == _COLOURS:
        return tensor.sum(1, keepdim=True)
    return None
