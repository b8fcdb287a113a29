"""nor_conv_1x1 in float32 and channels_last, as networks run it, against its definition in float64."""

import pytest
import torch
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.networks.build import build
from oche.networks.nasbench201 import ResidualBlock, nor_conv_1x1
from oche.networks.operations import Pointwise


def naive(x: Tensor, w: Tensor, stride: int) -> Tensor:
    """Every output pixel on its own: (i, j) sees pixel (stride · i, stride · j)."""
    b, _, h, width = x.shape
    rows, cols = -(-h // stride), -(-width // stride)
    out = x.new_zeros(b, len(w), rows, cols)
    for i in range(rows):
        for j in range(cols):
            out[:, :, i, j] = x[:, :, stride * i, stride * j].relu() @ w.T
    mean, var = out.mean((0, 2, 3), keepdim=True), out.var((0, 2, 3), unbiased=False, keepdim=True)
    return (out - mean) / (var + 1e-5).sqrt()


# 64 × 64 with few channels is where torch's strided 1×1 convolution corrupts memory on CPU, see Pointwise.
@pytest.mark.parametrize(
    ("channels", "h", "w", "stride"), [(4, 64, 64, 2), (12, 64, 64, 2), (3, 7, 13, 2), (4, 8, 8, 1)]
)
def test_values_and_gradients(channels: int, h: int, w: int, stride: int) -> None:
    net = nor_conv_1x1(channels, stride, False).to(memory_format=torch.channels_last)
    x = torch.randn(4, channels, h, w).to(memory_format=torch.channels_last).requires_grad_()
    (weight,) = net.parameters()
    out = net(x)
    cotangent = torch.randn(out.shape)
    found = torch.autograd.grad(out, [x, weight], cotangent)

    exact, w64 = x.detach().double().requires_grad_(), weight.detach().double()[:, :, 0, 0].requires_grad_()
    expected = naive(exact, w64, stride)
    wanted = torch.autograd.grad(expected, [exact, w64], cotangent.double())

    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    for f, g in zip(found, wanted, strict=True):
        torch.testing.assert_close(f.double().reshape(g.shape), g, rtol=1e-3, atol=1e-5 * g.abs().max().item() + 1e-4)


def test_no_network_has_a_strided_pointwise_convolution_of_torch() -> None:
    """The one that corrupts memory: kernel 1 × 1, stride above 1."""
    from oche.spaces import OPERATIONS, darts, nb201

    built = [op.build(4, 2, True) for name, op in OPERATIONS.items()]
    nets = [*built, darts(channels=4, cells=3, image=(16, 16)).supernet(), nb201(channels=4, cells=1).supernet()]
    convolutions = [m for net in nets for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions and any(isinstance(m, Pointwise) for m in convolutions)
    assert not [m for m in convolutions if m.kernel_size == (1, 1) and m.stride != (1, 1)]


def test_the_residual_cell_is_a_chain_of_residual_blocks() -> None:
    """RESNET in three stages with a stem of stride 4 computes the residual network that a user would write by hand."""
    net = build("RESNET", classes=3, channels=4, cells=2, image=32, stem="stride4").eval().double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = net.stem(x)
        assert y.shape == (2, 4, 8, 8)
        for part in net.cells:
            if isinstance(part, ResidualBlock):
                y = part(y)
            else:
                first, second = (op for op in part.ops if len(list(op.parameters())))
                y = y + second(first(y))
        torch.testing.assert_close(net(x), net.head(y), rtol=1e-12, atol=1e-12)
    assert [row["size"] for row in net.describe()] == [[8, 8]] * 3 + [[4, 4]] * 3 + [[2, 2]] * 3 + [[1, 1]]
    with pytest.raises(OcheError, match="no stem 'imagenet'; use 'cifar', 'stride2', 'stride4'"):
        build("RESNET", classes=3, stem="imagenet")
