"""Edges of one chosen candidate: partial channels, weights, and those that carry nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cells import darts
from oche.core.architecture import all_alive
from oche.networks.operations import OPERATIONS
from oche.spaces import operation
from oche.spaces.edge_variants import PartialEdge
from single_path_cells import compare


@pytest.fixture(scope="module", autouse=True)
def own_operations():
    """A candidate that has no part in the form, and one that has: three stages, of other kernels and dilations."""

    @operation("swish_alone")
    def swish(channels, stride, affine):
        return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, stride, 1, groups=channels))

    @operation("thrice")
    def thrice(channels, stride, affine):
        def stage(kernel, s, dilation):
            depthwise = nn.Conv2d(
                channels, channels, kernel, s, dilation * (kernel // 2), dilation, channels, bias=False
            )
            return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]

        dense = [nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 2, 2, bias=False), nn.BatchNorm2d(channels)]
        return nn.Sequential(*stage(3, stride, 3), *dense, *stage(5, 1, 1))

    yield
    del OPERATIONS["swish_alone"], OPERATIONS["thrice"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_dead_candidates_dead_edges_edge_weights_and_one_image(stride, seed):
    alive = torch.rand(5, 8, generator=torch.Generator().manual_seed(seed)) > (0.3, 0.5, 0.8, 0.8)[seed]
    alive[seed] = False
    fields = dict(stride=stride, batch=1, side=(7, 6), alive=alive, scales=seed != 1, seed=seed)
    compare(darts(channels=(2, 3, 8, 6)[seed] if stride == 1 else 4), **fields)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_partial_channels(stride):
    for seed in range(4):
        compare(darts(channels=8), PartialEdge(4), stride, side=(5, 6), scales=seed > 1, seed=seed)
    compare(darts(), PartialEdge(1), stride)
    dead = all_alive(darts().dag, 8)
    dead[2:] = False
    compare(darts(channels=8), PartialEdge(2), stride, alive=dead, choice=torch.tensor([0, 0, 0, 0, 0]))


def test_edges_that_carry_nothing():
    for choice in ([0, 0, 0, 0, 0], [0, 0, 4, 0, 6], [0, 0, 0, 0, 5]):
        compare(darts(), stride=2, choice=torch.tensor(choice))
    compare(darts(), alive=torch.zeros(5, 8, dtype=torch.bool), choice=torch.zeros(5, dtype=torch.int64))
    compare(darts(candidates=("none", "skip_connect")), choice=torch.tensor([0, 1, 1, 0, 1]))
    compare(darts(candidates=("none", "sep_conv_3x3")), choice=torch.tensor([0, 1, 1, 0, 1]))
