"""Morphisms keep the function, in float64 and with trained statistics, until noise is added."""

import copy

import pytest
import torch
from torch import nn

import oche
from oche.core.errors import OcheError
from oche.networks.morphisms import ConvexSkip, deepen, widen

CELL = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
G = torch.Generator().manual_seed(0)
X = torch.randn(4, 3, 8, 8, generator=G, dtype=torch.float64)


def trained(net):
    """``net`` in float64, with statistics, scales and shifts that are not those of the start."""
    net = net.double()
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                for values, low, high in ((m.running_mean, -0.3, 0.3), (m.running_var, 0.5, 2.0)):
                    values.uniform_(low, high, generator=G)
                if m.affine:
                    m.weight.uniform_(0.5, 1.5, generator=G)
                    m.bias.uniform_(-0.3, 0.3, generator=G)
    return net


def output(net, x=X):
    with torch.no_grad():
        found = net(x)
    return found[0] if isinstance(found, tuple) else found


def builds():
    operations = oche.Genotype.parse(
        "Genotype(normal=[('sep_conv_3x3', 0), ('dil_conv_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2)], "
        "normal_concat=[2, 3], reduce=[('avg_pool_3x3', 0), ('skip_connect', 1), ('sep_conv_5x5', 2), ('dil_conv_5x5', 0)], "
        "reduce_concat=[2, 3])"
    )
    yield lambda channels: oche.build(operations, classes=3, channels=channels, cells=3, image=8)
    yield lambda channels: oche.build(CELL, classes=3, channels=channels, cells=1, image=8)


@pytest.mark.parametrize("build", [*builds()], ids=["darts", "nb201"])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_wider_network_computes_the_same(build, factor):
    net = trained(build(4))
    wide = widen(net, build(4 * factor).double())
    for mode in (False, True):  # copies have equal batch statistics, too
        net.train(mode), wide.train(mode)
        if mode:
            net, wide = copy.deepcopy(net), copy.deepcopy(wide)
        assert (output(net) - output(wide)).abs().max() < 1e-10
    net.eval()
    noisy = widen(net, build(4 * factor).double(), noise=0.05, generator=torch.Generator().manual_seed(1)).eval()
    difference = (output(net) - output(noisy)).abs().max()
    assert 1e-6 < difference < 0.5 * output(net).abs().max()


def test_what_is_no_wider_network_is_refused():
    def build(channels, cell=CELL):
        return oche.build(cell, classes=3, channels=channels, cells=1, image=8)

    with pytest.raises(OcheError, match="channels that are a multiple"):
        widen(build(4), build(6))
    with pytest.raises(OcheError, match="only one of the two"):
        widen(build(4), build(8, "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"))
    with pytest.raises(OcheError, match="global pooling"):
        widen(nn.Linear(2, 2), nn.Linear(4, 4))


def chain():
    return trained(
        nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.ReLU())
    )


@pytest.mark.parametrize("after, channels, kernel", [(2, 5, 3), (4, 4, 1), (2, 5, 5)])
def test_a_deeper_chain_computes_the_same(after, channels, kernel):
    torch.manual_seed(0)
    layers = chain().eval()
    for seen in (None, output(layers[: after + 1])):
        deep = deepen(layers, after, channels, kernel, seen)
        assert len(deep) == len(layers) + 3 and not deep.training
        assert (output(deep) - output(layers)).abs().max() < 1e-10
    layers.train()
    calm = deepen(layers, after, channels, kernel, output(copy.deepcopy(layers)[: after + 1]))
    assert (output(calm) - output(copy.deepcopy(layers))).abs().max() < 1e-10  # in training mode, on this batch
    calm[after + 1].weight.data += 0.1
    assert (output(calm) - output(layers)).abs().max() > 1e-3


def test_only_behind_a_relu():
    with pytest.raises(OcheError, match="names no ReLU"):
        deepen(chain(), 1, 5)
    with pytest.raises(OcheError, match="kernel=2"):
        deepen(chain(), 2, 5, kernel=2)


def test_a_skip_connection_begins_without_effect():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 3, padding=1).double()
    skip = ConvexSkip(layer)
    assert torch.equal(output(skip), output(layer))
    skip.share.data.fill_(0.25)
    torch.testing.assert_close(output(skip), 0.25 * output(layer) + 0.75 * X)
    skip(X).sum().backward()
    assert skip.share.grad is not None and skip.share.grad.abs() > 0
