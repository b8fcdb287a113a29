"""Drop path (1605.07648 §4.1): in training, the output of an edge is dropped for whole samples, as in NASNet's and DARTS' code.

Shapes: D edges that can drop, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

EdgeFactors = Iterator[Tensor] | None  # factors (B, 1, 1, 1), one edge after another; None drops nothing


class DropPathNetwork(nn.Module):
    """A network whose edges drop their output for single samples in training, with probability ``drop_path``.

    Edges with an identity never drop, as in the published code. One draw serves the whole network. It can be passed to
    ``forward``, because a step that a CUDA graph replays cannot draw anything itself.
    """

    cells: nn.ModuleList
    drop_path: float

    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which an edge drops its output for a sample in training mode."""
        self.drop_path = probability

    def drops(self, x: Tensor) -> Tensor:
        """Draw (D, B) factors from torch's global generator: 0 with probability ``drop_path``, otherwise 1 / (1 − ``drop_path``).

        The output of edge d for image b of ``x`` is multiplied by entry (d, b).
        """
        keep = 1.0 - self.drop_path
        count = sum(can_drop(op) for cell in self.cells for op in getattr(cell, "ops", ()))
        return torch.empty(count, len(x), dtype=x.dtype, device=x.device).bernoulli_(keep) / keep

    def edge_factors(self, x: Tensor, drops: Tensor | None = None) -> EdgeFactors:
        """Return the factors of one edge after another: the rows of ``drops``, drawn now by default; None in evaluation."""
        if not self.training or (drops is None and self.drop_path == 0):
            return None
        drops = self.drops(x) if drops is None else drops
        return iter(drops.view(*drops.shape, 1, 1, 1).unbind())


def can_drop(op: nn.Module) -> bool:
    """Tell whether an edge with operation ``op`` can drop its output."""
    return not isinstance(op, nn.Identity)


def apply_drop_path(out: Tensor, op: nn.Module, factors: EdgeFactors) -> Tensor:
    """Return ``out`` (B, C, H, W), the output of ``op``, times the next of ``factors``.

    Operations that never drop take none.
    """
    return out if factors is None or not can_drop(op) else out * next(factors).to(out.dtype)
