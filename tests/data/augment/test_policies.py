"""Operations on batches against Pillow, one image at a time, and what policies draw."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from oche.core.errors import OcheError
from oche.data import Augment, prepare
from oche.data.augment.image_ops import OPERATIONS, SIGNED, apply_operations, luminance
from oche.data.augment.policies import LEVELS, RandAugment, TrivialAugment


def smooth_images(b, c, h, w, seed=5):
    """Images with structure (so that histograms and neighbours differ), some dark, some of few values."""
    g = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(b, c, 5, 5, generator=g), (h, w), mode="bicubic")
    x = x * torch.linspace(60, 300, b).view(-1, 1, 1, 1) - 20 + 6 * torch.randn(b, c, h, w, generator=g)
    return x.clamp(0, 255).to(torch.uint8)


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


# --- policies


@pytest.fixture
def changes(monkeypatch):
    """(operations, amounts) of every pass, which changes nothing."""
    seen = []

    def watched(x, operation, amount):
        seen.append((operation, amount))
        return x

    monkeypatch.setattr("oche.data.augment.policies.apply_operations", watched)
    return seen


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def test_trivial_augment_draws_all_operations_and_amounts_evenly(changes):
    n = 40_000
    TrivialAugment()(torch.zeros(n, 1, 8, 8, dtype=torch.uint8), generator())
    ((operation, amount),) = changes
    counts = operation.bincount(minlength=len(OPERATIONS)).float()
    assert (counts / n - 1 / 14).abs().max() < 0.006  # 4.6 standard errors
    most = {"shear": 0.99, "translate": 8.0, "rotate": 135.0, "enhance": 0.99, "posterize": 6.0}
    for i, name in enumerate(OPERATIONS):
        mine = amount[operation == i]
        kind = name.partition("_")[0]
        largest = most.get(kind, most["enhance"] if name in SIGNED else 0.0)
        if name == "solarize":
            assert mine.unique().tolist() == pytest.approx([256 * k / LEVELS for k in range(LEVELS + 1)], abs=1e-3)
            continue
        assert mine.abs().unique().numel() <= LEVELS + 1 and mine.abs().max().item() == pytest.approx(largest)
        assert (mine < 0).any() == (name in SIGNED) and mine.abs().mean().item() == pytest.approx(largest / 2, rel=0.05)


def test_strength_is_a_share_of_the_amounts(changes):
    x = torch.zeros(5000, 3, 8, 8, dtype=torch.uint8)
    TrivialAugment()(x, generator())
    TrivialAugment(strength=0.25)(x, generator())
    (operation, full), (same, quarter) = changes
    assert torch.equal(operation, same)
    solarized = operation == OPERATIONS.index("solarize")
    torch.testing.assert_close(quarter[~solarized], full[~solarized] / 4)
    torch.testing.assert_close(256 - quarter[solarized], (256 - full[solarized]) / 4)


def test_rand_augment_does_several_at_one_magnitude(changes):
    x = torch.zeros(4000, 3, 8, 8, dtype=torch.uint8)
    RandAugment(operations=3, magnitude=15.0)(x, generator())
    assert len(changes) == 3 and not torch.equal(changes[0][0], changes[1][0])
    operation, amount = changes[2]
    for name, want in {"shear_x": 0.15, "rotate": 15.0, "sharpness": 0.45, "posterize": 2.0, "solarize": 128.0}.items():
        mine = amount[operation == OPERATIONS.index(name)]
        assert mine.abs().unique().tolist() == pytest.approx([want])


@pytest.mark.parametrize("policy", [TrivialAugment(), RandAugment()])
def test_the_same_generator_gives_the_same_images(policy):
    x = smooth_images(16, 3, 16, 16)
    one, again, other = (policy(x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again) and one.dtype == torch.uint8
    assert sum(not torch.equal(a, b) for a, b in zip(one, other, strict=True)) >= 10


def test_policies_come_between_crop_and_normalisation():
    x = smooth_images(16, 3, 16, 16)
    policy = RandAugment()
    got = prepare(x, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), Augment(pad=0, flip=False, policy=policy), generator())
    want = prepare(policy(x, generator()), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert torch.equal(got, want) and got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrivialAugment(strength=0.0), "use 0 < strength <= 1"),
        (lambda: TrivialAugment(strength=1.5), "strength=1.5"),
        (lambda: RandAugment(operations=0), "operations=0"),
        (lambda: RandAugment(magnitude=31.0), "use operations >= 1 and 0 <= magnitude <= 30"),
    ],
)
def test_impossible_policies_are_refused(make, words):
    with pytest.raises(OcheError, match=words):
        make()
