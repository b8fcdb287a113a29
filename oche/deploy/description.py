"""The description of a trained network, which exported files hold: how it is built, and what images it takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import inf, isfinite

from oche.core.architecture import Genotype
from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError
from oche.data.pixel_range import PixelRange
from oche.networks.build import FinalNetwork
from oche.networks.fuse_batchnorm import fuse_batchnorm
from oche.training.image_recipes import Recipe


@dataclass(frozen=True)
class ModelDescription:
    """How a trained network is built, and the form of the images that it was trained on."""

    genotype: str
    recipe: Recipe
    classes: tuple[str, ...]
    channels: int
    image: tuple[int, int]
    """(H, W)"""
    mean: tuple[float, ...]
    """of each channel, in units of [0, 1]"""
    std: tuple[float, ...]
    fold: bool = False
    """whether BatchNorms are fused into the convolutions before them"""
    pixels: PixelRange | None = None
    """the pixel values that it takes; None for networks of versions that did not record them, which took 8 bits, and of more
    the upper 8"""

    def __post_init__(self) -> None:
        finite = all(0 < s < inf for s in self.std) and all(map(isfinite, self.mean))
        if not len(self.mean) == len(self.std) == self.channels or not finite:
            raise OcheError(
                f"mean={self.mean}, std={self.std} do not normalise images of {self.channels} channels; give one number each "
                "per channel, finite, deviations above 0"
            )

    def network(self) -> FinalNetwork:
        """Build the network with new weights, in evaluation mode, without the auxiliary tower, which only training needs."""
        net = replace(self.recipe, auxiliary=0.0).network(Genotype.parse(self.genotype), self).eval()
        return fuse_batchnorm(net) if self.fold else net

    def to_json(self) -> str:
        """Write a text that `from_json` reads without loss."""
        return json.dumps(to_dict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelDescription:
        """Read the text of `to_json`. Raises an `OcheError` that names ``where``."""
        try:
            return from_dict(cls, json.loads(text), where)
        except json.JSONDecodeError as error:
            raise OcheError(
                f"{where} has no description of its model that can be read ({error}); export it again"
            ) from None
