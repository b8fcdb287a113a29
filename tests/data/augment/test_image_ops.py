"""Operations on images against Pillow's."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from data_files import smooth_images
from oche.data.augment.image_ops import OPERATIONS, apply_operations, luminance


def affine(coefficients):
    return lambda im: im.transform(im.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST)


ORACLES = {
    "identity": lambda im, v: im,
    "shear_x": lambda im, v: affine((1, v, 0, 0, 1, 0))(im),
    "shear_y": lambda im, v: affine((1, 0, 0, v, 1, 0))(im),
    "translate_x": lambda im, v: affine((1, 0, v, 0, 1, 0))(im),
    "translate_y": lambda im, v: affine((1, 0, 0, 0, 1, v))(im),
    "rotate": lambda im, v: im.rotate(v, Image.Resampling.NEAREST),
    "brightness": lambda im, v: ImageEnhance.Brightness(im).enhance(1 + v),
    "color": lambda im, v: ImageEnhance.Color(im).enhance(1 + v),
    "contrast": lambda im, v: ImageEnhance.Contrast(im).enhance(1 + v),
    "sharpness": lambda im, v: ImageEnhance.Sharpness(im).enhance(1 + v),
    "posterize": lambda im, v: ImageOps.posterize(im, 8 - round(v)),
    "solarize": lambda im, v: ImageOps.solarize(im, v),
    "autocontrast": lambda im, v: ImageOps.autocontrast(im),
    "equalize": lambda im, v: ImageOps.equalize(im),
}
AMOUNTS = {
    **dict.fromkeys(("shear_x", "shear_y"), (-0.97, 0.313, 0.8)),
    **dict.fromkeys(("translate_x", "translate_y"), (-31.0, 3.3, 9.0)),
    "rotate": (-134.0, 17.0, 90.0),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (-0.99, -0.37, 0.63, 0.99)),
    "posterize": (0.0, 1.0, 4.4, 6.0),
    "solarize": (0.0, 100.0, 128.5, 256.0),
}


def pillow(x, names, amounts):
    out = []
    for image, name, amount in zip(x, names, amounts, strict=True):
        array = image.permute(1, 2, 0).numpy()
        im = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
        out.append(np.asarray(ORACLES[name](im, amount)).reshape(array.shape))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (12, 1, 20, 26)], ids=["colour", "grey"])
def test_every_operation_is_pillows(name, shape):
    x = smooth_images(*shape)
    values = AMOUNTS.get(name, (0.0,))
    amounts = [values[i % len(values)] for i in range(len(x))]
    got = apply_operations(x, torch.full((len(x),), OPERATIONS.index(name)), torch.tensor(amounts))
    want = pillow(x, [name] * len(x), amounts)
    away = (got.int() - want.int()).abs()
    moved = name in OPERATIONS[1:6]  # a pixel may fall on the other side of an edge that Pillow rounds to 1/65536
    assert (away > 0).float().mean() < (0.005 if moved else 0.002) and (moved or away.max() <= 1)
    if name not in ("identity", "color", "posterize"):  # the oracle does something
        assert (want != x).float().mean() > 0.05


def test_images_of_a_batch_have_operations_of_their_own():
    x = smooth_images(28, 3, 16, 16)
    which = torch.arange(28) % len(OPERATIONS)
    amounts = torch.tensor([AMOUNTS.get(OPERATIONS[i], (0.0, 0.0))[1] for i in which.tolist()])
    together = apply_operations(x, which, amounts)
    for i in range(28):
        assert torch.equal(together[i : i + 1], apply_operations(x[i : i + 1], which[i : i + 1], amounts[i : i + 1]))


def test_constant_and_tiny_images_stay():
    flat = torch.full((2, 1, 8, 8), 77, dtype=torch.uint8)
    which = torch.tensor([OPERATIONS.index("autocontrast"), OPERATIONS.index("equalize")])
    assert torch.equal(apply_operations(flat, which, torch.zeros(2)), flat)
    tiny = smooth_images(1, 1, 8, 8)  # 64 pixels are too few for 255 steps
    assert torch.equal(apply_operations(tiny, which[1:], torch.zeros(1)), tiny)


def test_luminance_of_other_channels_is_their_mean():
    x = smooth_images(2, 2, 8, 8)
    assert torch.equal(luminance(x), (x.int().sum(1, keepdim=True) + 1) // 2)
