"""Depthwise convolutions and their first and second derivatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradgradcheck

from cells import NHWC, assert_same
from oche.kernels.depthwise import depthwise, supports
from oche.networks.operations import OPERATIONS
from oche.spaces import operation

DOUBLE = torch.float64


@pytest.fixture(scope="module", autouse=True)
def own_operations():
    """Candidates that no fused form knows; one of them begins and ends as known ones do."""

    @operation("swish")
    def swish(channels, stride, affine):
        return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, stride, 1, groups=channels))

    @operation("biased")
    def biased(channels, stride, affine):
        inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride, 2, 2, channels), nn.BatchNorm2d(channels, 1e-3, None)
        )
        return nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1, 1), inner, nn.ReLU(), nn.BatchNorm2d(channels, momentum=0.3))

    yield
    del OPERATIONS["swish"], OPERATIONS["biased"]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_depthwise(kernel, stride, dilation):
    for side in ((8, 8), (7, 5), (6, 9), (3, 3), (1, 2)):
        x = torch.randn(2, 3, *side, dtype=DOUBLE).to(memory_format=NHWC).requires_grad_()
        w = torch.randn(3, 1, kernel, kernel, dtype=DOUBLE, requires_grad=True)
        results = []
        for out in (
            depthwise(x, w, stride, dilation),
            F.conv2d(x, w, None, stride, dilation * (kernel // 2), dilation, 3),
        ):
            results.append([out, *torch.autograd.grad(out.pow(3).sum(), (x, w))])
        assert_same(*results)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_second_derivatives_of_depthwise(stride, dilation):
    x = torch.randn(1, 2, 4, 5, dtype=DOUBLE, requires_grad=True)
    w = torch.randn(2, 1, 5, 5, dtype=DOUBLE, requires_grad=True)
    assert gradgradcheck(lambda x, w: depthwise(x, w, stride, dilation), (x, w))


def test_what_depthwise_can_do():
    assert supports(nn.Conv2d(4, 4, 5, 2, 2, groups=4, bias=False))
    assert supports(nn.Conv2d(4, 4, 5, 2, 4, 2, groups=4, bias=False))
    for different in (
        nn.Conv2d(4, 4, 5, 1, 2, groups=4),
        nn.Conv2d(4, 8, 5, 1, 2, groups=4, bias=False),
        nn.Conv2d(4, 4, 5, 1, 1, groups=4, bias=False),
        nn.Conv2d(4, 4, (1, 7), 1, (0, 3), groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 2, 3, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False, padding_mode="reflect"),
        nn.Conv2d(4, 4, 5, 1, "same", groups=4, bias=False),
    ):
        assert not supports(different)
