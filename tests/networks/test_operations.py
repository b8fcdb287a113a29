"""FactorizedReduce in float32 and channels_last, as networks run it, against its definition in float64."""

import pytest
import torch
from torch import Tensor

import oracles_conv as oracle
from cell_networks import normal, shaken, weights
from oche.networks.operations import DARTS_CANDIDATES, FactorizedReduce, find_operation


def naive(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    """Every output pixel on its own: (i, j) of the first half sees pixel (2i, 2j), of the second (2i + 1, 2j + 1)."""
    b, _, h, w = x.shape
    rows, cols = (h + 1) // 2, (w + 1) // 2
    out = x.new_zeros(b, len(w1) + len(w2), rows, cols)
    for i in range(rows):
        for j in range(cols):
            out[:, : len(w1), i, j] = x[:, :, 2 * i, 2 * j].relu() @ w1.T
            if 2 * i + 1 < h and 2 * j + 1 < w:
                out[:, len(w1) :, i, j] = x[:, :, 2 * i + 1, 2 * j + 1].relu() @ w2.T
    mean, var = out.mean((0, 2, 3), keepdim=True), out.var((0, 2, 3), unbiased=False, keepdim=True)
    return (out - mean) / (var + 1e-5).sqrt()


# 64 × 64 with few channels is where torch's strided 1×1 convolution corrupts memory on CPU, see FactorizedReduce.
@pytest.mark.parametrize(("channels", "h", "w"), [(4, 64, 64), (12, 64, 64), (4, 9, 8), (3, 7, 13)])
def test_values_and_gradients(channels: int, h: int, w: int) -> None:
    net = FactorizedReduce(channels, 5).to(memory_format=torch.channels_last)
    x = torch.randn(4, channels, h, w).to(memory_format=torch.channels_last).requires_grad_()
    weights = [net.conv_1.weight, net.conv_2.weight]
    out = net(x)
    cotangent = torch.randn(out.shape)
    found = torch.autograd.grad(out, [x, *weights], cotangent)

    exact = x.detach().double().requires_grad_()
    w1, w2 = (v.detach().double()[:, :, 0, 0].requires_grad_() for v in weights)
    expected = naive(exact, w1, w2)
    wanted = torch.autograd.grad(expected, [exact, w1, w2], cotangent.double())

    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    for f, g in zip(found, wanted, strict=True):
        torch.testing.assert_close(f.double().reshape(g.shape), g, rtol=1e-3, atol=1e-4)


CLOSE = dict(rtol=1e-9, atol=1e-11)


# --- operations


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (7, 4)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [*DARTS_CANDIDATES, "sep_conv_7x7", "conv_7x1_1x7"])
def test_operations(name, stride, size):
    op = shaken(find_operation(name).build(4, stride, True))
    x = normal(3, 4, *size, requires_grad=True)
    ours = op(x)
    want = oracle.operate(name, x, weights(op), stride, True)
    assert ours.shape == (3, 4, *((n + stride - 1) // stride for n in size))
    torch.testing.assert_close(ours, want, **CLOSE)
    probe, leaves = normal(*ours.shape, seed=1), [x, *op.parameters()]
    if name != "none":
        got, expected = (torch.autograd.grad((out * probe).sum(), leaves) for out in (ours, want))
        torch.testing.assert_close(got, expected, **CLOSE)
    op.eval()
    torch.testing.assert_close(op(x), oracle.operate(name, x, weights(op), stride, True), **CLOSE)
