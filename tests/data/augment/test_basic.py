"""Whole-batch augmentation against loops over single images in float64, with the draws replayed from the generator."""

import numpy as np
import pytest
import torch
from PIL import Image

from oche.core.errors import OcheError
from oche.data import Augment, prepare
from oche.data.augment.basic import crop_and_flip, cutout, resized_crop
from oche.data.registry import default_augment


def images(b: int, c: int, h: int, w: int) -> torch.Tensor:
    return torch.randint(0, 256, (b, c, h, w), generator=torch.Generator().manual_seed(5)).to(torch.uint8)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(below: int, b: int, g: torch.Generator) -> list[int]:
    return torch.randint(below, (b, 1), generator=g).flatten().tolist()


def naive_crop(x: np.ndarray, pad: int, flips: list[int], down: list[int], right: list[int]) -> np.ndarray:
    """Pads with zeros, cuts out at (down, right), then mirrors, one image at a time."""
    b, _, h, w = x.shape
    out = np.zeros_like(x)
    for k in range(b):
        padded = np.pad(x[k], ((0, 0), (pad, pad), (pad, pad)))
        cut = padded[:, down[k] : down[k] + h, :]
        if flips[k]:  # columns run backwards from W − 1, and the window moves to the right over the padded image
            cut = np.stack([cut[:, :, w - 1 - j + right[k]] for j in range(w)], -1)
        else:
            cut = cut[:, :, right[k] : right[k] + w]
        out[k] = cut
    return out


@pytest.mark.parametrize("shape", [(64, 3, 8, 8), (17, 1, 9, 12)])
@pytest.mark.parametrize(("pad", "flip"), [(0, True), (2, False), (4, True)])
def test_crop_and_flip(shape, pad, flip):
    x, b = images(*shape), shape[0]
    g = generator()
    flips = drawn(2, b, g) if flip else [0] * b
    down, right = (drawn(2 * pad + 1, b, g), drawn(2 * pad + 1, b, g)) if pad else ([0] * b, [0] * b)
    out = crop_and_flip(x, pad, flip, generator())
    assert torch.equal(out, torch.from_numpy(naive_crop(x.numpy(), pad, flips, down, right)))
    assert out.is_contiguous(memory_format=torch.channels_last) and out.dtype == torch.uint8


def test_a_mirrored_image_is_the_mirror_of_a_crop():
    x = images(256, 3, 8, 8)
    out = crop_and_flip(x, 1, True, generator())
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    seen = set()
    for k in range(256):
        crops = {(i, j, f): (c.flip(-1) if f else c) for i in range(3) for j in range(3) for f in (0, 1)
                 for c in [padded[k, :, i : i + 8, j : j + 8]]}  # fmt: skip
        match = [key for key, crop in crops.items() if torch.equal(crop, out[k])]
        assert len(match) == 1
        seen.add(match[0])
    assert len(seen) == 18  # every move, mirrored and not


@pytest.mark.parametrize("side", [1, 2, 5, 6, 40])
@pytest.mark.parametrize("shape", [(50, 3, 8, 8), (20, 1, 9, 13)])
def test_cutout(shape, side):
    z = torch.randn(*shape, dtype=torch.float64, generator=generator(9))
    b, _, h, w = shape
    g = generator()
    rows, cols = drawn(h, b, g), drawn(w, b, g)
    expected = z.clone()
    for k in range(b):
        for i in range(h):
            for j in range(w):
                if -(side // 2) <= i - rows[k] < side // 2 and -(side // 2) <= j - cols[k] < side // 2:
                    expected[k, :, i, j] = 0
    assert torch.equal(cutout(z, side, generator()), expected)


def test_prepare_normalises():
    x, mean, std = images(6, 3, 8, 9), (0.1, 0.5, 0.9), (0.3, 0.2, 0.01)
    z = prepare(x, mean, std)
    expected = (x.double().numpy() / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    np.testing.assert_allclose(z.double().numpy(), expected, rtol=1e-5, atol=2e-5)
    assert z.dtype == torch.float32 and z.is_contiguous(memory_format=torch.channels_last)


def test_prepare_is_crop_then_normalise_then_cutout():
    x, mean, std, augment = images(30, 3, 8, 8), (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), Augment(2, True, 4)
    g = generator()
    expected = cutout(prepare(crop_and_flip(x, 2, True, g), mean, std), 4, g)
    assert torch.equal(prepare(x, mean, std, augment, generator()), expected)
    corner = prepare(torch.full((1, 1, 8, 8), 255, dtype=torch.uint8), (0.5,), (0.5,), Augment(8, False), generator(1))
    assert [round(v, 6) for v in corner.unique().tolist()] == [-1, 1]  # what moves in is black, not grey


def test_prepare_depends_on_the_generator_alone():
    x, augment = images(20, 3, 8, 8), Augment(4, True, 3)
    first = prepare(x, (0.5,) * 3, (0.2,) * 3, augment, generator(1))
    torch.manual_seed(77)
    assert torch.equal(first, prepare(x, (0.5,) * 3, (0.2,) * 3, augment, generator(1)))
    assert not torch.equal(first, prepare(x, (0.5,) * 3, (0.2,) * 3, augment, generator(2)))


def test_what_suits_a_set():
    assert default_augment("cifar10", (32, 32)) == Augment(4, True) and default_augment("svhn", (32, 32)) == Augment(
        4, False
    )
    assert default_augment("digits", (8, 8)) == Augment(1, False) and default_augment("digits", (16, 16)) == Augment(
        2, False
    )
    assert default_augment("my folder", (64, 48)) == Augment(6, True)
    with pytest.raises(OcheError, match="pad=-1"):
        Augment(pad=-1)


# --- crops of random size, against Pillow's scaling of the same rectangle -----------------------------------------------


def smooth(b, h, w):
    g = torch.Generator().manual_seed(5)
    x = torch.nn.functional.interpolate(torch.rand(b, 3, 6, 6, generator=g), (h, w), mode="bicubic")
    return (255 * x).clamp(0, 255).to(torch.uint8)


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
def test_resized_crop_against_pillow(flip):
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


def test_resized_crop_of_the_whole_area_keeps_the_image():
    x = smooth(4, 16, 16)
    whole = resized_crop(x, (1.0, 1.0), False, generator())
    got = prepare(x, (0.0,) * 3, (1.0,) * 3, Augment(pad=4, flip=False, crop=(0.9999, 1.0)), generator())
    assert whole.shape == x.shape and (255 * got).round().shape == x.shape
    # no padding: nothing black moves in
    assert got.amin((2, 3)).ge(x.float().div(255).amin((2, 3)) - 0.02).all()
