"""Operations on batches against Pillow, one image at a time, and what policies draw."""

import pytest
import torch

from data_files import smooth_images
from oche.core.errors import OcheError
from oche.data import Augment, prepare
from oche.data.augment.image_ops import OPERATIONS, SIGNED
from oche.data.augment.policies import LEVELS, RandAugment, TrivialAugment

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
