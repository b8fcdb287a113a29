"""Mixtures of two images for training: mixup (1710.09412) and CutMix (1905.04899), drawn for each image.

Shapes: B images of C channels, H × W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from oche.core.arguments import checked
from oche.core.seeds import batch_uniform

_QUANTILES = 4096


@checked
@dataclass(frozen=True)
class Mixing:
    """Mix every image of a batch, and its label, with another image of the batch by a share lambda ~ Beta(alpha, alpha).

    ``mixup`` is alpha of x = lambda · x + (1 − lambda) · x'. ``cutmix`` is alpha of a rectangle of x' put into x, with
    the share 1 − lambda of the area and cut off at the borders; lambda is then the share of x that is really left. 0
    switches either off. With both, each image is mixed either way with probability 1/2. The other image is the one before
    it in the batch, whose order is random.

    Deviation 1 from the papers, whose codes draw one lambda and one rectangle for the batch: one for each image.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(
        self, x: Tensor, labels: Tensor, classes: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the mixed images and the class shares (B, K), for floats x (B, C, H, W) and labels (B,) int64."""
        partner, left, mixed = x.roll(1, 0), labels.new_ones(len(x), dtype=x.dtype), x
        cut = torch.full_like(left, float(self.cutmix > 0), dtype=torch.bool)
        if self.mixup and self.cutmix:
            cut = batch_uniform(x, generator) < 0.5
        if self.cutmix:
            box = _box(x, _beta(self.cutmix, x, generator), generator)
            mixed = torch.where((box & cut.view(-1, 1, 1)).unsqueeze(1), partner, x)
            left = torch.where(cut, 1 - box.to(x.dtype).mean((1, 2)), left)
        if self.mixup:
            share = torch.where(cut, 1.0, _beta(self.mixup, x, generator))
            mixed = torch.where(cut.view(-1, 1, 1, 1), mixed, partner.lerp(x, share.view(-1, 1, 1, 1)))
            left = torch.where(cut, left, share)
        one_hot = F.one_hot(labels, classes).to(x.dtype)
        return mixed, one_hot.roll(1, 0).lerp(one_hot, left.unsqueeze(1))


def _box(x: Tensor, share: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the mask (B, H, W) of a rectangle with 1 − ``share`` of the area around a centre uniform over the image.

    As in the authors' code its sides are ⌊W √(1 − share)⌋, and it spans [centre − ⌊side / 2⌋, centre + ⌊side / 2⌋).
    """
    inside = []
    for n in x.shape[2:]:
        half = (n * (1 - share).sqrt()).long().unsqueeze(1) // 2
        distance = torch.arange(n, device=x.device) - (n * batch_uniform(x, generator)).long().unsqueeze(1)
        inside.append((distance >= -half) & (distance < half))
    return inside[0].unsqueeze(2) & inside[1].unsqueeze(1)


def _beta(alpha: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw (B,) from Beta(alpha, alpha): one of 4,096 equally likely quantiles, so that every device draws the same."""
    values = _quantiles(alpha).to(like.device, non_blocking=True)
    return values[(batch_uniform(like, generator) * _QUANTILES).long()].to(like.dtype)


@lru_cache(maxsize=16)
def _quantiles(alpha: float) -> Tensor:
    """Return the 4,096 quantiles of Beta(alpha, alpha) at the middles of equal intervals. Cached."""
    from scipy.special import betaincinv

    middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, middles.numpy())).float()
