"""Depthwise Triton kernels, interpreted, against PyTorch."""

import os

import pytest
import torch
import torch.nn.functional as F

from oche.kernels.triton import depthwise as depthwise_kernels
from oche.kernels.triton import weighted_sum as sum_kernels
from triton_cells import normal

pytestmark = pytest.mark.slow  # kernels are interpreted

pytest.importorskip("triton", reason="Triton is not installed: pip install triton")


if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip(
        "kernels run in Triton's interpreter here: TRITON_INTERPRET=1, as conftest sets it", allow_module_level=True
    )


D = torch.float64
ALL = ((3, 1), (5, 1), (3, 2), (5, 2))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several tiles a map, where maps are small."""
    monkeypatch.setattr(sum_kernels, "TILE", 512)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1)


def oracle(x, norm, weights, kinds, stride):
    """The stage by torch's convolutions: a list of (J, B, H', W', C), one a kernel."""
    outs, row = [], 0
    for size, dilation in kinds:
        members = []
        for j, w in enumerate(weights):
            image = x[min(j, len(x) - 1)]
            if norm is not None:
                image = image * norm[0][min(j, len(x) - 1)] + norm[1][min(j, len(x) - 1)]
            kernel = w[row : row + size * size].t().reshape(-1, 1, size, size)
            pad = dilation * (size // 2)
            y = F.conv2d(image.relu().permute(0, 3, 1, 2), kernel, None, stride, pad, dilation, len(kernel))
            members.append(y.permute(0, 2, 3, 1))
        outs.append(torch.stack(members))
        row += size * size
    return torch.stack(outs)


@pytest.mark.parametrize(
    "kinds, groups, members, stride, normed, size",
    [
        (ALL, 1, 1, 1, False, (3, 7)),
        (((3, 1), (3, 2)), 1, 2, 2, False, (5, 6)),
        (((5, 1),), 2, 2, 1, True, (4, 5)),
        (((3, 2), (1, 1)), 2, 2, 2, True, (1, 9)),
    ],
)
def test_depthwise_stages(kinds, groups, members, stride, normed, size, monkeypatch):
    monkeypatch.setattr(sum_kernels, "TILE", 512 if kinds == ALL else 256)
    monkeypatch.setattr(depthwise_kernels, "CHUNK", 1 if kinds == ALL else 2)
    x = normal(groups, 2, *size, 3)
    norm = (torch.rand(groups, 3, dtype=D) + 0.5, normal(groups, 3)) if normed else None
    w = normal(members, sum(r * r for r, _ in kinds), 3).requires_grad_()
    moved = x if norm is None else x * norm[0][:, None, None, None] + norm[1][:, None, None, None]
    moved.requires_grad_()
    want = oracle(moved, None, w, kinds, stride)
    g = torch.randn_like(want)
    dx, dw = torch.autograd.grad(want, (moved, w), g)
    stage = depthwise_kernels.Depthwise(x, norm, kinds, stride, members)
    torch.testing.assert_close(stage.forward(w.detach()), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stage.input_gradient(w.detach(), g), dx, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stage.weight_gradient(g), dw, rtol=1e-12, atol=1e-12)


def test_every_tap_of_a_kernel_is_one_row():
    found = depthwise_kernels.taps(ALL)
    assert len(found) == 41  # of 68 weights: what a pixel reads is read once
    assert sorted(r for tap in found for r in tap[2:] if r >= 0) == list(range(9 + 25 + 9 + 25))
    assert (-4, 2, -1, -1, -1, 9 + 25 + 9 + 3) in found  # first row, fourth column of the dilated 5 × 5
