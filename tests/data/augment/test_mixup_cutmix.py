"""Mixtures of two images against a loop over single images in float64, with the draws replayed from the generator."""

import math

import pytest
import torch
from scipy import stats

from oche.data.augment.mixup_cutmix import Mixing

K = 5


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def batch(b=64, c=3, h=12, w=9):
    x = torch.randn(b, c, h, w, generator=generator(1)).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(0, K, (b,), generator=generator(2))


def shares(alpha, b, g):
    """Draws of Beta(alpha, alpha): the middle of one of 4,096 equally likely parts of its quantile function."""
    draws = torch.rand(b, generator=g)
    return [stats.beta.ppf((math.floor(u * 4096) + 0.5) / 4096, alpha, alpha) for u in draws.tolist()]


def naive(x, labels, mixup, cutmix, g):
    """One image at a time, in float64; order of draws: which way, cutmix's share and centre, mixup's share."""
    b, _, h, w = x.shape
    cuts = [bool(cutmix)] * b
    if mixup and cutmix:
        cuts = [u < 0.5 for u in torch.rand(b, generator=g).tolist()]
    if cutmix:
        areas = shares(cutmix, b, g)
        rows, columns = (torch.rand(b, generator=g).tolist() for _ in range(2))
    if mixup:
        weights = shares(mixup, b, g)
    images, targets = x.double().clone(), torch.zeros(b, K, dtype=torch.float64)
    for i in range(b):
        other, left = x[i - 1].double(), 1.0
        if cuts[i]:
            tall, wide = (int(n * math.sqrt(1 - areas[i])) // 2 for n in (h, w))
            y, z = int(h * rows[i]), int(w * columns[i])
            for r in range(max(0, y - tall), min(h, y + tall)):
                for c in range(max(0, z - wide), min(w, z + wide)):
                    images[i, :, r, c] = other[:, r, c]
                    left -= 1 / (h * w)
        else:
            left = weights[i]
            images[i] = left * x[i].double() + (1 - left) * other
        targets[i, labels[i]] += left
        targets[i, labels[i - 1]] += 1 - left
    return images, targets


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_against_a_loop_over_images(mixup, cutmix):
    x, labels = batch()
    got, targets = Mixing(mixup, cutmix)(x, labels, K, generator())
    want, expected = naive(x, labels, mixup, cutmix, generator())
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(targets.double(), expected, rtol=1e-5, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last) and got.dtype == x.dtype
    changed = [not torch.equal(a, b) for a, b in zip(got, x, strict=True)]
    assert sum(changed) > 40 and targets.sum(1).sub(1).abs().max() < 1e-6


def test_shares_are_of_the_beta_distribution():
    labels = torch.arange(20_000) % 2
    _, targets = Mixing(mixup=0.4)(torch.zeros(20_000, 1, 1, 1), labels, 2, generator())
    mine = targets[torch.arange(20_000), labels]
    assert stats.kstest(mine.double().numpy(), stats.beta(0.4, 0.4).cdf).statistic < 0.014  # critical at 0.1 %


def test_rectangles_are_as_large_as_their_share_and_lie_anywhere():
    """Beta(1, 1) is uniform: far from borders the mean share is 1/2; cut off at them less goes."""
    x = torch.arange(4000.0).view(-1, 1, 1, 1).expand(-1, 1, 32, 32).contiguous()
    got, targets = Mixing(cutmix=1.0)(x, torch.arange(4000) % 2, 2, generator())
    foreign = (got != x).squeeze(1).double()
    mean = foreign.mean(0)
    assert mean[16, 16] > 1.3 * mean[0, 0] > 0.1 and abs(mean[4, 20] - mean[20, 4]) < 0.05
    assert torch.allclose(1 - targets.amin(1).double(), torch.maximum(foreign.mean((1, 2)), 1 - foreign.mean((1, 2))))


def test_draws_follow_the_generator():
    x, labels = batch()
    one, again, other = (Mixing(0.8, 1.0)(x, labels, K, generator(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, one, again)) and not torch.equal(one[0], other[0])
