"""Drop path (1605.07648 §4.1; of whole samples, as in NASNet's and DARTS' codes), for all edges of a final network at once.

Shapes: D edges that drop, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

EdgeFactors = Iterator[Tensor] | None  # (B, 1, 1, 1) for one edge after the other; None: nothing is dropped


class DropPathNetwork(nn.Module):
    """A network whose edges drop what they carry of single samples in training, with probability ``drop_path``.

    Edges that carry an identity are exempt, as in the published code. One draw serves the network, and may be given to its
    forward: a step that is repeated by a CUDA graph draws nothing itself.
    """

    cells: nn.ModuleList
    drop_path: float

    def set_drop_path(self, probability: float) -> None:
        """Sets the probability of dropping an edge's output for a sample, in training mode."""
        self.drop_path = probability

    def drops(self, x: Tensor) -> Tensor:
        """(D, B), of torch's global generator: what each edge's output is multiplied by for each of the images x, 0 or
        1 / (1 − ``drop_path``)."""
        keep = 1.0 - self.drop_path
        count = sum(can_drop(op) for cell in self.cells for op in getattr(cell, "ops", ()))
        return torch.empty(count, len(x), dtype=x.dtype, device=x.device).bernoulli_(keep) / keep

    def rows(self, x: Tensor, drops: Tensor | None = None) -> EdgeFactors:
        """What the edges take from one another: rows of ``drops``, by default drawn now; None in evaluation."""
        if not self.training or (drops is None and self.drop_path == 0):
            return None
        drops = self.drops(x) if drops is None else drops
        return iter(drops.view(*drops.shape, 1, 1, 1).unbind())


def can_drop(op: nn.Module) -> bool:
    """Whether an edge with ``op`` drops."""
    return not isinstance(op, nn.Identity)


def apply_drop_path(out: Tensor, op: nn.Module, rows: EdgeFactors) -> Tensor:
    """What ``op`` gave, (B, C, H, W), after drop path."""
    return out if rows is None or not can_drop(op) else out * next(rows).to(out.dtype)
