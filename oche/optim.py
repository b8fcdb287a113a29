"""Settings of the two optimisers, and of gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from .errors import OcheError
from .loop import cosine


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum for network weights, its rate annealed by a cosine (1806.09055 §3.1.1)."""

    lr: float = 0.025
    """learning rate at the start"""
    lr_min: float = 0.0
    """learning rate at the end"""
    momentum: float = 0.9
    decay: float = 3e-4
    """weight decay"""
    clip: float = 5.0
    """largest norm of the whole gradient; 0: no clipping"""

    def __post_init__(self) -> None:
        if not 0 < self.lr < inf or not 0 <= self.lr_min <= self.lr:
            raise OcheError(f"lr={self.lr}, lr_min={self.lr_min} is no schedule; use lr > 0 and 0 <= lr_min <= lr")
        if not (0 <= self.momentum < 1 and 0 <= self.decay < inf and 0 <= self.clip < inf):
            raise OcheError(
                f"momentum={self.momentum}, decay={self.decay}, clip={self.clip} cannot train; "
                "use 0 <= momentum < 1, decay >= 0, clip >= 0"
            )

    def optimizer(self, weights: Iterable[Tensor]) -> torch.optim.SGD:
        return torch.optim.SGD(weights, lr=self.lr, momentum=self.momentum, weight_decay=self.decay)

    def rate(self, progress: float) -> float:
        """Learning rate at ``progress`` in [0, 1]."""
        return cosine(self.lr, self.lr_min, progress)

    def update(self, optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], rate: float) -> None:
        """Clips the gradients in ``.grad`` and steps. Weights without a gradient rest: no decay, no momentum."""
        if self.clip:
            torch.nn.utils.clip_grad_norm_(weights, self.clip)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()


@dataclass(frozen=True)
class Adam:
    """Adam for architecture logits (1806.09055 §3.1.1)."""

    lr: float = 3e-4
    """learning rate"""
    betas: tuple[float, float] = (0.5, 0.999)
    decay: float = 1e-3
    """weight decay"""
    init: float = 1e-3
    """logits start at this times N(0, 1)"""

    def __post_init__(self) -> None:
        fits = 0 < self.lr < inf and 0 <= self.decay < inf and 0 <= self.init < inf
        if not fits or not all(0 <= b < 1 for b in self.betas):
            raise OcheError(
                f"lr={self.lr}, betas={self.betas}, decay={self.decay}, init={self.init} cannot train; "
                "use lr > 0, 0 <= betas < 1, decay >= 0, init >= 0"
            )

    def optimizer(self, logits: Iterable[Tensor]) -> torch.optim.Adam:
        return torch.optim.Adam(logits, lr=self.lr, betas=self.betas, weight_decay=self.decay)
