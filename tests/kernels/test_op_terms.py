"""Every kind of edge and candidate as terms of one sum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cells import assert_same, cell, compare, darts, outcome
from oche.kernels.shared import node_states
from oche.networks import forms
from oche.networks.operations import OPERATIONS
from oche.spaces import mixed_ops as edges
from oche.spaces import operation
from oche.spaces.edge_variants import AuxiliarySkip, PartialEdge, PathDropout, SkipDropout
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge

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


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_rarer_operations_and_those_of_users(stride):
    compare(darts(candidates=("swish", "biased", "sep_conv_7x7", "conv_7x1_1x7", "none")), stride=stride, side=(7, 6))


class Twice(edges.MixedOperation):
    """What a user may write."""

    def evaluate(self, o, x):
        return 2 * super().evaluate(o, x)


class TwiceEdge(EdgeBuilder):
    """Builds `Twice`."""

    def __call__(self, space, shape):
        return Twice(space, shape)


EDGES = {
    "partial": PartialEdge(2),
    "partial, k = 1": PartialEdge(1),
    "auxiliary": AuxiliarySkip(),
    "auxiliary, faded": AuxiliarySkip((0.0, 0.0)),
    "skip dropout": SkipDropout(0.5),
    "path dropout": PathDropout(0.5),
    "partial with an auxiliary skip": PartialEdge(2, AuxiliarySkip()),
    "partial with skip dropout": PartialEdge(2, SkipDropout(0.5)),
    "auxiliary beside partial": AuxiliarySkip(of=PartialEdge(2)),
    "a user's": TwiceEdge(),
    "partial of a user's": PartialEdge(2, TwiceEdge()),
    "by channels": lambda space, shape: PartialEdge(2 if shape.stride == 2 else 4)(space, shape),
}


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_every_kind_of_edge(edge, stride):
    compare(darts(channels=8), edge, stride, side=(5, 6), scales=True)
    compare(darts(channels=8), edge, stride, dead=2)


@pytest.mark.parametrize("edge", [MixedEdge(), PartialEdge(2), AuxiliarySkip()], ids=["mixed", "partial", "auxiliary"])
def test_edges_without_living_candidates_and_those_of_none(edge):
    dag, net = cell(darts(), edge, 2, 0)
    inputs = [torch.randn(2, 4, 6, 5, dtype=DOUBLE) for _ in range(2)]
    ops = torch.rand(len(dag), 8, dtype=DOUBLE)
    for active in (((), (), (0,), (0,), (3, 4)), ((1,), (0,), (), (), ()), ((),) * 5):
        arguments = dag, net, inputs, ops, None, active, 2
        assert_same(outcome(node_states, *arguments), outcome(forms.node_states, *arguments))
