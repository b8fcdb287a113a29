"""Augmentation policies: random operations on training images, drawn for each image.

Shapes: B images of C channels, H × W pixels.
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

LEVELS = 30  # equal steps of an amount from 0 to its largest value

# The largest amount of an operation (identity, autocontrast and equalize have none). Translations are shares of the image's side.
_WIDE = dict(shear=0.99, translate=1.0, rotate=135.0, enhance=0.99, posterize=6.0)
_STANDARD = dict(shear=0.3, translate=150 / 331, rotate=30.0, enhance=0.9, posterize=4.0)


class Policy(ABC):
    """Random changes of uint8 images, after crop and flip and before normalisation. Register your own as a component."""

    @abstractmethod
    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the changed images. x and the result are (B, C, H, W) uint8, on the same device."""


@component
@dataclass(frozen=True)
class TrivialAugment(Policy):
    """One operation for each image, its amount uniform between 0 and the largest (2103.10158, "Wide").

    Deviation 1 from it: images are translated by up to their whole side, which is its 32 pixels at 32 × 32.
    """

    strength: float = 1.0
    """factor of the published largest amounts; use less for small, blurred or oriented images"""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise OcheError(f"strength={self.strength} is not a share of the published amounts; use 0 < strength <= 1")

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        level = batch_integers(LEVELS + 1, x, generator) / LEVELS
        return apply_random_operation(x, level * self.strength, _WIDE, generator)


@component
@dataclass(frozen=True)
class RandAugment(Policy):
    """Several operations one after another, all with the same amount (1909.13719). Each image has its own operations."""

    operations: int = 2
    """number of operations; published: 2 or 3"""
    magnitude: float = 9.0
    """their amount, at most 30; published for CIFAR-10: 4 and 5 for wide ResNets, 9 for ImageNet"""

    def __post_init__(self) -> None:
        if self.operations < 1 or not 0 <= self.magnitude <= LEVELS:
            raise OcheError(
                f"operations={self.operations}, magnitude={self.magnitude} cannot be used; "
                f"use operations >= 1 and 0 <= magnitude <= {LEVELS}"
            )

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        level = torch.full((len(x),), self.magnitude / LEVELS, device=x.device)
        for _ in range(self.operations):
            x = apply_random_operation(x, level, _STANDARD, generator)
        return x


def apply_random_operation(
    x: Tensor, level: Tensor, largest: dict[str, float], generator: torch.Generator | None
) -> Tensor:
    """Change each image of x by a random operation, at its ``level`` (B,) in [0, 1] of the ``largest`` amounts."""
    operation = batch_integers(len(OPERATIONS), x, generator)
    sign = 2.0 * batch_integers(2, x, generator) - 1
    limits = _limits(largest, x.shape[2], x.shape[3]).to(x.device, non_blocking=True)[:, operation]
    start, end, signed = limits
    return apply_operations(x, operation, torch.where(signed > 0, sign, 1.0) * (start + level * (end - start)))


def _limits(largest: dict[str, float], h: int, w: int) -> Tensor:
    """Return (3, operations): the amounts at level 0 and at level 1, and 1 for operations that take either sign."""
    m = largest
    ends = {
        "shear_x": (0.0, m["shear"]), "shear_y": (0.0, m["shear"]),
        "translate_x": (0.0, m["translate"] * w), "translate_y": (0.0, m["translate"] * h),
        "rotate": (0.0, m["rotate"]), "posterize": (0.0, m["posterize"]), "solarize": (256.0, 0.0),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.0, m["enhance"])),
    }  # fmt: skip
    rows = [(*ends.get(name, (0.0, 0.0)), float(name in SIGNED)) for name in OPERATIONS]
    return torch.tensor(rows).T
