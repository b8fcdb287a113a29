"""The derivatives of one node."""

import pytest
import torch
from torch import nn

from oche.kernels.cpu import build as native
from oche.kernels.cpu.node import Node, NodeProgram
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


def test_the_weights_of_a_node_are_differentiated_as_written():
    """(1) and (2) of node.py for one pool and one skip, by hand."""
    from oche.kernels.cpu.node import SourceTerm, TensorTerm

    x, y = (torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    w = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    program = NodeProgram([SourceTerm(0), TensorTerm(0)], [torch.empty(0, dtype=torch.float64)])
    out = Node.apply(program, 1, 1, w, x, y)
    assert torch.allclose(out, 0.3 * x + 0.7 * y)
    g = torch.randn_like(out)
    gw, gx, gy = torch.autograd.grad(out, [w, x, y], g)
    assert torch.allclose(gw, torch.stack([(g * x).sum(), (g * y).sum()]))
    assert torch.allclose(gx, 0.3 * g) and torch.allclose(gy, 0.7 * g)
