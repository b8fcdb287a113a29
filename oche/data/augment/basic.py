"""Turn uint8 images into normalised floats, with random crops, flips and cutout on the way.

Works on whole batches, on their device.

Shapes: B images of C channels, H × W pixels. L is the side of cutout. Every image has its own draws, and nothing loops
over images. Draws come from the device of the generator, so a CPU generator gives the same crops to a GPU run as to a CPU
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.seeds import batch_integers, batch_uniform
from oche.data.registry import Augment


@checked
def prepare(
    x: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    augment: Augment | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return normalised float32 images (B, C, H, W) in channels_last memory format, from uint8 (B, C, H, W).

    Crop and flip come first, so the padding is black. Then comes the policy, then (x / 255 − mean) / std with ``mean``
    and ``std`` (C,) in [0, 1] units, then cutout. ``augment=None`` only normalises. ``generator=None`` draws from torch's
    global generator.
    """
    if x.dim() != 4:
        raise OcheError(f"images are of shape {tuple(x.shape)}; give a batch (B, C, H, W)")
    if not len(mean) == len(std) == x.shape[1]:
        raise OcheError(
            f"images have {x.shape[1]} channels, and there are {len(mean)} means and {len(std)} deviations; give one a channel"
        )
    if augment is not None and augment.crop is not None:
        x = resized_crop(x, augment.crop, augment.flip, generator)
    elif augment is not None and (augment.pad or augment.flip):
        x = crop_and_flip(x, augment.pad, augment.flip, generator)
    if augment is not None and augment.policy is not None:
        x = augment.policy(x, generator)
    shift, scale = _affine(tuple(mean), tuple(std), x.device)
    z = torch.addcmul(shift, x.to(torch.float32, memory_format=torch.channels_last), scale)
    if augment is not None and augment.cutout:
        z = cutout(z, augment.cutout, generator)
    return z.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=64)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (−mean / std, 1 / (255 std)), each (1, C, 1, 1) float32 on ``device``. Cached."""
    m, s = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
    return (-m / s).float().to(device), (1 / (255 * s)).float().to(device)


def crop_and_flip(x: Tensor, pad: int, flip: bool, generator: torch.Generator | None) -> Tensor:
    """Shift each image by up to ``pad`` pixels each way, filling with zeros, and (``flip``) mirror it with probability 1/2.

    x and the result are (B, C, H, W) of any dtype; the result is in channels_last memory format. The work is one gather:
    output pixel (i, j) is pixel (i + dy, j + dx) of the padded image, or (i + dy, W − 1 − j + dx) if it is mirrored.
    """
    b, _, h, w = x.shape
    rows, cols = (torch.arange(n, device=x.device).expand(b, n) for n in (h, w))
    if flip:
        cols = torch.where(batch_integers(2, x, generator).unsqueeze(1).bool(), w - 1 - cols, cols)
    if pad:
        x = F.pad(x, (pad, pad, pad, pad))
        rows = rows + batch_integers(2 * pad + 1, x, generator).unsqueeze(1)
        cols = cols + batch_integers(2 * pad + 1, x, generator).unsqueeze(1)
    which = torch.arange(b, device=x.device).view(b, 1, 1)
    return x.permute(0, 2, 3, 1)[which, rows.unsqueeze(2), cols.unsqueeze(1)].permute(0, 3, 1, 2)


RATIO = 3 / 4  # smallest ratio of width to height, relative to the image; the largest is its inverse


def resized_crop(x: Tensor, areas: tuple[float, float], flip: bool, generator: torch.Generator | None) -> Tensor:
    """Cut a random rectangle out of each image and scale it to the image's size (Inception's, 1409.4842 §6), bilinear.

    With ``flip`` it is mirrored with probability 1/2. Its share of the area is uniform in ``areas``. Its width by height
    is log-uniform in [3/4, 4/3] times the image's. Its place is uniform. x and the result are (B, C, H, W) uint8.

    Deviation 1 from the usual code, which draws up to ten times until the rectangle fits into the image: a side that is
    too long is cut to the image's.
    """
    draws = batch_uniform(x, generator, 5)
    area = areas[0] + (areas[1] - areas[0]) * draws[0]
    root = torch.exp(log(RATIO) * (2 * draws[1] - 1) / 2)  # square root of width by height
    sizes = (area.sqrt() / root).clamp(max=1), (area.sqrt() * root).clamp(max=1)  # height, width
    # grid_sample's coordinates: −1 and 1 are the outer borders of the image
    centres = [(1 - size) * (2 * draw - 1) for size, draw in zip(sizes, draws[2:4], strict=True)]
    mirror = torch.where(draws[4] < 0.5, -1.0, 1.0) if flip else torch.ones_like(area)
    zero = torch.zeros_like(area)
    rows = [(sizes[1] * mirror, zero, centres[1]), (zero, sizes[0], centres[0])]
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    out = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.round().clamp(0, 255).to(torch.uint8)


def cutout(z: Tensor, side: int, generator: torch.Generator | None) -> Tensor:
    """Set a square of each image to zero. Its centre is uniform over the pixels; the border cuts it off (1708.04552, §3.2).

    As in the authors' code it spans [centre − L // 2, centre + L // 2) each way, so an odd L acts like L − 1.
    z and the result are (B, C, H, W).
    """
    h, w = z.shape[2:]
    inside = []
    for n in (h, w):
        distance = torch.arange(n, device=z.device) - batch_integers(n, z, generator).unsqueeze(1)  # (B, n)
        inside.append((distance >= -(side // 2)) & (distance < side // 2))
    return z.masked_fill((inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1), 0.0)
