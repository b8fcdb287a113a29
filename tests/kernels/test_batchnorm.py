"""Batch normalisation of shared work: its statistics, frozen or not, and the maps that it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

import oche
from cells import assert_same, cell, darts, network, outcome
from oche.core.architecture import Mix
from oche.kernels.batchnorm import Term, weighted_sum
from oche.kernels.choose import set_form
from oche.kernels.shared import SHARED, node_states
from oche.networks import forms
from oche.networks.operations import OPERATIONS
from oche.spaces import operation
from oche.spaces.mixed_ops import MixedEdge
from oche.training.losses import frozen_statistics

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


def test_statistics_stay_where_they_are_when_frozen():
    space = darts()
    net, mix, _ = network(space, SHARED, torch.randn(3, 3, 6, 6, dtype=DOUBLE))
    before = copy.deepcopy(list(net.buffers()))
    with frozen_statistics(net):
        net(torch.randn(3, 3, 6, 6, dtype=DOUBLE), mix)
    assert all(torch.equal(x, y) for x, y in zip(before, net.buffers(), strict=True))


def test_evaluation_is_the_plain_one():
    x = torch.randn(3, 3, 6, 6, dtype=DOUBLE)
    net, mix, _ = network(darts(), SHARED, x)
    set_form(net.eval(), SHARED)
    got = net(x, mix)
    set_form(net, forms.PLAIN)
    assert torch.equal(got, net(x, mix))


def test_a_frozen_batchnorm_uses_its_statistics():
    dag, net = cell(oche.spaces.seed(channels=4, nodes=1), MixedEdge(), 1, 0)
    for i, m in enumerate(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        m.train(i % 3 != 0)
        m.running_mean.fill_(0.3)
    inputs, ops = [torch.randn(2, 4, 5, 5, dtype=DOUBLE) for _ in range(2)], torch.rand(len(dag), 8, dtype=DOUBLE)
    arguments = dag, net, inputs, ops, None, (tuple(range(8)),) * len(dag), 1
    assert_same(outcome(node_states, *arguments), outcome(forms.node_states, *arguments))


def test_a_map_of_one_pixel_is_refused_as_by_batchnorm():
    dag, net = cell(darts(), MixedEdge(), 1, 0)
    inputs, mix = [torch.randn(1, 4, 1, 1, dtype=DOUBLE)] * 2, Mix(torch.rand(len(dag), 8), None, ((4, 5),) * len(dag))
    for how in (forms.node_states, node_states):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            how(dag, net, inputs, mix, 1)


@pytest.mark.parametrize("affine", [False, True])
def test_derivatives_of_what_reaches_a_node(affine):
    norms = [nn.BatchNorm2d(2, affine=affine).double(), nn.BatchNorm2d(2, affine=False, eps=1e-2).double()]
    params = [p for n in norms for p in n.parameters()]
    maps = [torch.randn(2, 2, 2, 2, dtype=DOUBLE, requires_grad=True) for _ in range(3)]
    weights = torch.rand(3, dtype=DOUBLE, requires_grad=True)

    def total(weights, x, y, z, *_):
        a, b, c = weights.unbind()
        return weighted_sum([Term(x, a), Term(y, b, norms[0]), Term(z, c, norms[1])])

    plain = weights[0] * maps[0] + weights[1] * norms[0](maps[1]) + weights[2] * norms[1](maps[2])
    assert_same([total(weights, *maps)], [plain])
    assert gradcheck(total, (weights, *maps, *params)) and gradgradcheck(total, (weights, *maps, *params))
