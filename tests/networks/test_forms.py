"""A form goes into networks and leaves their state alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cells import darts
from oche.kernels.choose import set_form
from oche.kernels.single_path.cell import form
from oche.kernels.single_path.unused_weights import ReachTracker
from oche.methods.relaxations import Softmax
from oche.networks.operations import OPERATIONS
from oche.spaces import operation


@pytest.fixture(scope="module", autouse=True)
def own_operations():
    """A candidate that has no part in the form, and one that has: three stages, of other kernels and dilations."""

    @operation("swish_alone")
    def swish(channels, stride, affine):
        return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, stride, 1, groups=channels))

    @operation("thrice")
    def thrice(channels, stride, affine):
        def stage(kernel, s, dilation):
            depthwise = nn.Conv2d(
                channels, channels, kernel, s, dilation * (kernel // 2), dilation, channels, bias=False
            )
            return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]

        dense = [nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 2, 2, bias=False), nn.BatchNorm2d(channels)]
        return nn.Sequential(*stage(3, stride, 3), *dense, *stage(5, 1, 1))

    yield
    del OPERATIONS["swish_alone"], OPERATIONS["thrice"]


SMALL = dict(channels=4, cells=3, nodes=2, classes=3, in_channels=1, image=(8, 8))


def test_the_form_goes_into_networks_and_leaves_state_alone():
    torch.manual_seed(0)
    net = darts(**SMALL).supernet()
    names = [*net.state_dict()]
    set_form(net, form(ReachTracker()))
    assert [*net.state_dict()] == names and Softmax().mixes
