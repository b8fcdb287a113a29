"""Drop path: whole samples, the share that is asked for, one draw for all edges, given or drawn, identities exempt."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import oche
from oche.networks.drop_path import DropPathNetwork, apply_drop_path

EDGES = "[('skip_connect', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('skip_connect', 2)]"
MIXED = f"Genotype(normal={EDGES}, normal_concat=[2, 3], reduce={EDGES}, reduce_concat=[2, 3])"


def network(drop_path=0.3, **fields):
    return oche.build(MIXED, classes=2, channels=2, cells=2, reductions=(), drop_path=drop_path, **fields)


def test_draws_are_zeros_and_what_keeps_the_mean():
    net = network()
    drops = net.drops(torch.zeros(5000, 1, 1, 1, dtype=torch.float64))
    assert drops.shape == (4, 5000)  # two edges a cell do not carry an identity
    zero = drops == 0
    assert (drops[~zero] == 1 / 0.7).all()
    assert zero.double().mean().item() == pytest.approx(0.3, abs=0.015)  # 4.6 standard errors
    assert all(not torch.equal(a, b) for a, b in pairwise(drops))


def test_whole_samples_are_dropped():
    x, row = torch.randn(3, 2, 4, 4).bfloat16(), torch.tensor([0.0, 2.0, 2.0])
    out = apply_drop_path(x, nn.MaxPool2d(3), iter([row.view(3, 1, 1, 1)]))
    assert out.dtype == x.dtype and not out[0].any() and torch.equal(out[1:], 2 * x[1:])
    assert apply_drop_path(x, nn.Identity(), iter([row])) is x and apply_drop_path(x, nn.MaxPool2d(3), None) is x


@pytest.mark.parametrize("benchmark", [False, True])
def test_a_draw_may_be_given(benchmark):
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    net = oche.build(text, classes=2, channels=2, cells=1, drop_path=0.5) if benchmark else network(0.5)
    x = torch.randn(6, 3, 8, 8)
    torch.manual_seed(3)
    drops = net.drops(x)
    torch.manual_seed(3)
    own = net(x)
    state = torch.get_rng_state()
    assert torch.equal(net(x, drops), own) and torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(net(x, torch.ones_like(drops)), own)
    net.eval()
    assert torch.equal(net(x, drops), net(x))


def test_a_backbone_drops_in_the_cells_that_it_keeps():
    backbone = oche.build(MIXED, features=True, channels=2, cells=3, reductions=(2,), drop_path=0.5, out_indices=(0,))
    assert isinstance(backbone, DropPathNetwork) and len(backbone.cells) == 2
    assert len(backbone.drops(torch.zeros(1, 3, 8, 8))) == 4
