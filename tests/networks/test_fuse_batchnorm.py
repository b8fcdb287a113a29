"""Folded networks compute what they did, in float64; what cannot be folded stays."""

import copy

import pytest
import torch
from torch import nn

import oche
from oche.networks.fuse_batchnorm import fuse_batchnorm
from oche.networks.operations import FactorizedReduce

CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('dil_conv_5x5', 1), ('skip_connect', 0)], "
    "normal_concat=[2, 3], reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('conv_7x1_1x7', 2), ('sep_conv_5x5', 0)], "
    "reduce_concat=[2, 3])"
)
BENCHMARK = (
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"  # all five operations
)


def settled(net: nn.Module) -> nn.Module:
    """``net`` in float64 with BatchNorms that differ from the identity in every number."""
    g = torch.Generator().manual_seed(3)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for t, low, high in [
                (norm.weight, 0.3, 2),
                (norm.bias, -1, 1),
                (norm.running_mean, -1, 1),
                (norm.running_var, 0.1, 3),
            ]:
                if t is not None:
                    t.data.uniform_(low, high, generator=g)
    return net.double().eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


@pytest.mark.parametrize(
    "genotype, left, fields",
    [
        (CELLS, 0, {}),
        (CELLS, 0, {"stem": "imagenet", "image": 32}),
        (CELLS, 0, {"stem": "none", "head": (6, 5), "widen": "after"}),
        (BENCHMARK, 1, {"cells": 1, "image": 9}),  # the head's BatchNorm follows a sum
    ],
)
def test_a_folded_network_computes_the_same(genotype, left, fields):
    size = fields.get("image", 8)
    net = settled(oche.build(genotype, **{**dict(classes=3, channels=3, cells=3, in_channels=2, image=size), **fields}))
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        x = torch.randn(4, 2, size, size, dtype=torch.float64)
        expected, other = net(x), fuse_batchnorm(net)
        assert norms(net) > left == norms(other)
        torch.testing.assert_close(other(x), expected, rtol=1e-12, atol=1e-12 * expected.abs().max().item())
    assert not other.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    kept = [k for k in before if k in other.state_dict()]
    assert kept and set(other.state_dict()) - set(before) == {
        k for k in other.state_dict() if k.endswith("bias") and k not in before
    }


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_one_convolution_by_the_closed_form(bias, affine):
    row = settled(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm2d(6, eps=1e-3, affine=affine)))
    conv, norm = row
    got = fuse_batchnorm(row)[0]
    for c in range(6):  # one channel at a time, in plain numbers
        scale = (norm.weight[c].item() if affine else 1.0) / (norm.running_var[c].item() + 1e-3) ** 0.5
        shift = norm.bias[c].item() if affine else 0.0
        own = conv.bias[c].item() if bias else 0.0
        torch.testing.assert_close(got.weight[c], conv.weight[c] * scale, rtol=1e-14, atol=0)
        assert got.bias[c].item() == pytest.approx((own - norm.running_mean[c].item()) * scale + shift, abs=1e-14)


def test_weights_keep_their_type():
    assert fuse_batchnorm(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))[0].weight.dtype == torch.float32


def test_a_reduction_of_odd_width_folds_into_both_convolutions():
    net = settled(FactorizedReduce(3, 5))
    other, x = fuse_batchnorm(net), torch.randn(2, 3, 7, 9, dtype=torch.float64)
    assert norms(other) == 0
    torch.testing.assert_close(other(x), net(x), rtol=1e-13, atol=1e-13)


class Own(nn.Sequential):
    """Runs its children, and the first one once more."""

    def forward(self, input):
        return super().forward(input) + self[0](input)


def unusual() -> list[nn.Module]:
    conv, relu = nn.Conv2d(2, 2, 1), nn.ReLU()
    return [
        nn.Sequential(conv, nn.BatchNorm2d(2), conv),  # a convolution that is used twice
        nn.Sequential(nn.Conv2d(2, 2, 1), relu, nn.Conv2d(2, 2, 1), relu, nn.BatchNorm2d(2)),  # no neighbours
        Own(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
        nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)),
    ]


@pytest.mark.parametrize("case", range(5))
def test_what_is_not_one_affine_map_stays(case):
    net = settled(unusual()[case])
    other, x = fuse_batchnorm(net), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    assert norms(other) == 1
    torch.testing.assert_close(other(x), net(x), rtol=1e-13, atol=1e-13)
