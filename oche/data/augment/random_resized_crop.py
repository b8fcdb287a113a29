"""Random crops of many sizes, brought back to the images' own (Inception's, 1409.4842 §6): every image its own, on its device.

B images of C channels, H × W pixels.
"""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from oche.data.augment.random_batch import uniform

RATIO = 3 / 4  # least width by height; the largest is its inverse


def resized_crop(x: Tensor, areas: tuple[float, float], flip: bool, generator: torch.Generator | None) -> Tensor:
    """A rectangle of each image at the image's own size, bilinear, and (``flip``) mirrored with probability 1/2.

    Its share of the area is uniform in ``areas``, its width by height log-uniform in [3/4, 4/3] times the image's, its place
    uniform. x and the result (B, C, H, W) uint8. Deviation 1 from the usual code, which draws anew up to ten times what does not
    fit into the image: a side that is too long is cut to the image's.
    """
    draws = uniform(x, generator, 5)
    area = areas[0] + (areas[1] - areas[0]) * draws[0]
    root = torch.exp(log(RATIO) * (2 * draws[1] - 1) / 2)  # of width by height
    sizes = (area.sqrt() / root).clamp(max=1), (area.sqrt() * root).clamp(max=1)
    # grid_sample's coordinates: −1 and 1 are the outer borders of the image
    centres = [(1 - size) * (2 * draw - 1) for size, draw in zip(sizes, draws[2:4], strict=True)]
    mirror = torch.where(draws[4] < 0.5, -1.0, 1.0) if flip else torch.ones_like(area)
    zero = torch.zeros_like(area)
    rows = [(sizes[1] * mirror, zero, centres[1]), (zero, sizes[0], centres[0])]
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    out = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.round().clamp(0, 255).to(torch.uint8)
