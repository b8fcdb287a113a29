"""Which operations training images are changed by, and how much: drawn for every image on its own.

B images of C channels, H × W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import batch_integers
from oche.data.augment.image_ops import OPERATIONS, SIGNED, apply_operations

LEVELS = 30  # amounts go in so many equal steps from nothing to the most

# The most that an operation does (identity, autocontrast and equalize have no amount). Moves are shares of the image's side.
_WIDE = dict(shear=0.99, translate=1.0, rotate=135.0, enhance=0.99, posterize=6.0)
_STANDARD = dict(shear=0.3, translate=150 / 331, rotate=30.0, enhance=0.9, posterize=4.0)


class Policy(ABC):
    """Random changes of uint8 images, after crop and flip and before they are normalised. Register your own as a component."""

    @abstractmethod
    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x and the result (B, C, H, W) uint8, on the same device."""


@component
@dataclass(frozen=True)
class TrivialAugment(Policy):
    """One operation an image, its amount uniform between nothing and the most (2103.10158, "Wide").

    Deviation 1 from it: images move by up to their whole side, which is its 32 pixels at 32 × 32.
    """

    strength: float = 1.0
    """share of the published amounts that is the most; small, blurred or oriented images want less"""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise OcheError(f"strength={self.strength} is no share of the published amounts; use 0 < strength <= 1")

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        level = batch_integers(LEVELS + 1, x, generator) / LEVELS
        return apply_random_operation(x, level * self.strength, _WIDE, generator)


@component
@dataclass(frozen=True)
class RandAugment(Policy):
    """Some operations one after the other, all with one given amount (1909.13719), for every image its own."""

    operations: int = 2
    """how many; published: 2 or 3"""
    magnitude: float = 9.0
    """amount of all, 30 being the most; published for CIFAR-10: 4 and 5 for wide ResNets, 9 for ImageNet"""

    def __post_init__(self) -> None:
        if self.operations < 1 or not 0 <= self.magnitude <= LEVELS:
            raise OcheError(
                f"operations={self.operations}, magnitude={self.magnitude} change nothing that is known; "
                f"use operations >= 1 and 0 <= magnitude <= {LEVELS}"
            )

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        level = torch.full((len(x),), self.magnitude / LEVELS, device=x.device)
        for _ in range(self.operations):
            x = apply_random_operation(x, level, _STANDARD, generator)
        return x


def apply_random_operation(
    x: Tensor, level: Tensor, most: dict[str, float], generator: torch.Generator | None
) -> Tensor:
    """Each image of x changed by an operation drawn for it, at its ``level`` (B,) in [0, 1] of ``most``."""
    operation = batch_integers(len(OPERATIONS), x, generator)
    sign = 2.0 * batch_integers(2, x, generator) - 1
    limits = _limits(most, x.shape[2], x.shape[3]).to(x.device, non_blocking=True)[:, operation]
    least, largest, signed = limits
    return apply_operations(x, operation, torch.where(signed > 0, sign, 1.0) * (least + level * (largest - least)))


def _limits(most: dict[str, float], h: int, w: int) -> Tensor:
    """(3, operations): amount at level 0, at level 1, and 1 where either sign is taken."""
    m = most
    ends = {
        "shear_x": (0.0, m["shear"]), "shear_y": (0.0, m["shear"]),
        "translate_x": (0.0, m["translate"] * w), "translate_y": (0.0, m["translate"] * h),
        "rotate": (0.0, m["rotate"]), "posterize": (0.0, m["posterize"]), "solarize": (256.0, 0.0),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.0, m["enhance"])),
    }  # fmt: skip
    rows = [(*ends.get(name, (0.0, 0.0)), float(name in SIGNED)) for name in OPERATIONS]
    return torch.tensor(rows).T
