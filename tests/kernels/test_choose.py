"""Which form computes a cell."""

import pytest
import torch
from torch import nn

from oche.core.errors import OcheError
from oche.kernels import choose as fused
from oche.kernels.cpu import build as native
from oche.kernels.cpu.cell import NATIVE
from oche.networks.forms import PLAIN
from oche.networks.operations import OPERATIONS
from oche.spaces import operation

try:
    native.load()
except native.Unavailable as reason:
    pytest.skip(f"no compiled kernels here: {reason}", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def own_operation():
    """A candidate that no fused form knows."""

    @operation("swish")
    def swish(channels, stride, affine):
        return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, stride, 1, groups=channels))

    yield
    del OPERATIONS["swish"]


def test_choices():
    cpu, double = torch.device("cpu"), torch.float64
    assert fused.choose("auto", cpu, double).form is NATIVE
    assert fused.choose("plain", cpu, double).form is PLAIN
    assert "bfloat16" in fused.choose("auto", cpu, torch.bfloat16).why
    with pytest.raises(OcheError, match=r"unknown.*auto, fused, plain"):
        fused.choose("fastest", cpu, double)
    with pytest.raises(OcheError, match=r"unknown form 'fastest'.*native"):
        fused.form("fastest")
