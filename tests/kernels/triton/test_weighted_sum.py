"""Triton kernels for moments, sums of maps and their products, interpreted, against PyTorch."""

import os

import pytest
import torch

from oche.kernels.triton import depthwise as depthwise_kernels
from oche.kernels.triton import weighted_sum as sum_kernels
from triton_cells import normal

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")


if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "kernels run in Triton's interpreter here: TRITON_INTERPRET=1, as conftest sets it", allow_module_level=True
    )


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several tiles a map, where maps are small."""
    monkeypatch.setattr(sum_kernels, "TILE", 512)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1)


@pytest.mark.parametrize("pixels", [1, 128, 130, 300])
def test_moments_far_from_zero(pixels):
    z = normal(2, 1, 1, pixels, 3) + 1e4
    mean, var = sum_kernels.moments(z)
    torch.testing.assert_close(mean, z.mean((1, 2, 3)), rtol=1e-14, atol=0)
    torch.testing.assert_close(var, z.var((1, 2, 3), unbiased=False), rtol=1e-9, atol=1e-12)


def test_sums_of_maps_and_their_products():
    g, own, shared = normal(2, 3, 7, 5, 3), normal(2, 3, 7, 5, 3), normal(1, 3, 7, 5, 3)
    a, d, mean = normal(3, 2, 3), normal(2, 3), normal(2, 2, 3)
    terms = torch.stack([g, own, shared.expand_as(g)])
    want = (terms * a[:, :, None, None, None]).sum(0) + d[:, None, None, None]
    torch.testing.assert_close(sum_kernels.linear_combination([g, own, shared], a, d), want, rtol=1e-13, atol=1e-13)
    sums, dots = sum_kernels.dot_products(g, [own, shared], mean)
    torch.testing.assert_close(sums, g.sum((1, 2, 3)), rtol=1e-12, atol=1e-12)
    away = terms[1:] - mean[:, :, None, None, None]
    torch.testing.assert_close(dots, (g * away).sum((2, 3, 4)), rtol=1e-12, atol=1e-12)
