"""Crops of random size against Pillow's scaling of the same rectangle, with the draws replayed from the generator."""

import numpy as np
import pytest
import torch
from PIL import Image

from oche.data import Augment, prepare
from oche.data.augment.random_resized_crop import resized_crop


def smooth(b, h, w):
    g = torch.Generator().manual_seed(5)
    x = torch.nn.functional.interpolate(torch.rand(b, 3, 6, 6, generator=g), (h, w), mode="bicubic")
    return (255 * x).clamp(0, 255).to(torch.uint8)


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def rectangles(b, h, w, areas, g):
    """(left, upper, right, lower, mirrored) of each image, in pixels."""
    area, ratio, down, right, flip = torch.rand(5, b, generator=g).double().numpy()
    for i in range(b):
        share = areas[0] + (areas[1] - areas[0]) * area[i]
        by = (4 / 3) ** (1 - 2 * ratio[i])  # log-uniform from 4/3 to 3/4
        tall, wide = min(1, (share / by) ** 0.5) * h, min(1, (share * by) ** 0.5) * w
        top, left = (h - tall) * down[i], (w - wide) * right[i]
        yield left, top, left + wide, top + tall, flip[i] < 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_against_pillow(flip):
    x, h, w = smooth(24, 32, 40), 32, 40
    got = resized_crop(x, (0.3, 1.0), flip, generator())
    assert got.dtype == torch.uint8 and got.shape == x.shape
    for image, out, (*box, mirrored) in zip(x, got, rectangles(24, h, w, (0.3, 1.0), generator()), strict=True):
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy())
        want = pillow.resize((w, h), Image.Resampling.BILINEAR, box=box)
        want = want.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip and mirrored else want
        away = np.abs(np.asarray(want).astype(int) - out.permute(1, 2, 0).numpy())
        assert away[2:-2, 2:-2].max() <= 2  # at its border Pillow does not look out of the rectangle
        assert away.mean() < 0.6


def test_the_whole_image_stays():
    x = smooth(4, 16, 16)
    whole = resized_crop(x, (1.0, 1.0), False, generator())
    got = prepare(x, (0.0,) * 3, (1.0,) * 3, Augment(pad=4, flip=False, crop=(0.9999, 1.0)), generator())
    assert whole.shape == x.shape and (255 * got).round().shape == x.shape
    # no padding: nothing black moves in
    assert got.amin((2, 3)).ge(x.float().div(255).amin((2, 3)) - 0.02).all()
