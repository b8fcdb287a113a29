"""What a network costs: parameters and FLOPs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def parameters(net: nn.Module, auxiliary: bool = False) -> int:
    """Number of weights; those of an auxiliary tower, which only training needs, count on request."""
    return sum(p.numel() for name, p in net.named_parameters() if auxiliary or not name.startswith("auxiliary."))


def flops(net: nn.Module, forward: Callable[[], object]) -> int:
    """FLOPs of ``forward()`` with ``net`` in evaluation mode, a multiplication and an addition counting as two.

    Forwards only: torch's counter overcounts the backward of grouped convolutions.
    """
    from torch.utils.flop_counter import FlopCounterMode

    before = net.training
    net.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward()
    net.train(before)
    return counter.get_total_flops()
