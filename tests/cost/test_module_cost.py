"""Parameters and FLOPs against sums by hand; a multiplication and an addition are two."""

import pytest
import torch
from torch import nn

import oche
from oche.core.architecture import all_alive
from oche.cost import flops, parameters
from oche.methods.relaxations import Softmax

LAYERS = [
    # (layer, input, FLOPs by hand)
    (nn.Linear(7, 5), (3, 7), 2 * 3 * 7 * 5),
    (nn.Conv2d(3, 4, 3, padding=1, bias=False), (2, 3, 6, 5), 2 * 2 * 6 * 5 * 4 * 3 * 9),
    (nn.Conv2d(4, 4, 5, stride=2, padding=2, groups=4, bias=False), (1, 4, 8, 8), 2 * 4 * 4 * 4 * 25),
    (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False), (1, 4, 8, 8), 2 * 8 * 8 * 4 * 9),
    (nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(2)), (1, 2, 4, 4), 0),  # not counted, as elsewhere
]


@pytest.mark.parametrize(("layer", "shape", "want"), LAYERS, ids=lambda x: type(x).__name__)
def test_flops_of_known_layers(layer, shape, want):
    assert flops(layer, lambda: layer(torch.zeros(shape))) == want


def test_counting_changes_nothing():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    flops(net, lambda: net(torch.ones(1, 1, 2, 2)))
    assert net.training and net[2].training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_parameters_leave_an_auxiliary_tower_out_unless_asked():
    plain = oche.build("DARTS_V2", classes=10, channels=4, cells=3)
    towered = oche.build("DARTS_V2", classes=10, channels=4, cells=3, auxiliary=True)
    tower = sum(p.numel() for p in towered.auxiliary.parameters())
    assert parameters(towered) == parameters(plain) == sum(p.numel() for p in plain.parameters())
    assert parameters(towered, auxiliary=True) == parameters(plain) + tower and tower > 0


def test_parameters_of_a_linear_layer_and_a_norm():
    assert parameters(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))) == 3 * 4 + 4 + 2 * 4


def test_a_supernet_costs_what_its_parts_cost():
    """One normal cell of one node, 1x1 adapters and sep_conv_3x3 alone: every product counted on paper."""
    space = oche.spaces.darts(
        channels=2, cells=1, nodes=1, candidates=("sep_conv_3x3",), classes=3, reductions=(), in_channels=1
    )
    net = space.supernet()
    mix = Softmax()(torch.zeros(2, 1), all_alive(space.dag, 1), space.dag, None, 0.0)
    pixels, stem, c = 64, 6, 2
    adapters = 2 * (stem * c)
    separable = 2 * 2 * (9 * c + c * c)  # two edges, each a depthwise 3x3 and a pointwise convolution, twice
    by_hand = 2 * (pixels * (9 * 1 * stem + adapters + separable) + c * 3)
    assert flops(net, lambda: net(torch.zeros(1, 1, 8, 8), {"normal": mix})) == by_hand
