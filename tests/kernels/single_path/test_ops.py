"""Chosen candidates on the device, and kernels of all sizes in one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cells import NHWC, assert_same, cell, darts
from oche.bilevel.cuda_graph_obstacles import DeviceMask
from oche.core.architecture import DeviceChoice, all_alive
from oche.kernels.single_path.cell import node_states
from oche.kernels.single_path.ops import CandidateWeight, Choice, convolve, gather_weights
from oche.methods.relaxations import EdgeNormalised
from oche.methods.stochastic_relaxations import GumbelHard
from oche.networks.operations import DARTS_CANDIDATES, OPERATIONS
from oche.spaces import operation
from oche.spaces.mixed_ops import MixedEdge
from replayed_searches import Crossing

D = torch.float64


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


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("wide", [1, 4])
def test_kernels_of_all_sizes_and_dilations_in_one(side, stride, wide):
    """Depthwise and dense kernels, chosen on three edges of four channels, against convolutions edge by edge."""
    kinds = [(1, 1), (3, 1), (3, 2), (5, 2), (3, 4)]
    g = torch.Generator().manual_seed(side)
    parts = [CandidateWeight((j, o), torch.randn(4, wide, k, k, dtype=D, generator=g).requires_grad_(), d)
             for j in range(3) for o, (k, d) in enumerate(kinds) if (j, o) != (1, 0)]  # fmt: skip
    x = torch.randn(2, 12, side, side, dtype=D, generator=g).to(memory_format=NHWC).requires_grad_()
    weights = [part.weight for part in parts]
    for o in range(5):
        choice = torch.tensor([o, 0, (o + 2) % 5])
        (found,) = gather_weights(parts, Choice(choice, 5), [3])
        out = convolve(x, found, stride)
        want = []
        for j, c in enumerate(choice.tolist()):
            mine = [p for p in parts if p.place == (j, c)]
            w, d = (mine[0].weight, mine[0].dilation) if mine else (torch.zeros(4, wide, 1, 1, dtype=D), 1)
            pad, groups = d * (w.shape[-1] // 2), 4 // wide
            want.append(F.conv2d(x[:, 4 * j : 4 * j + 4].contiguous(), w, None, stride, pad, d, groups))
        cotangent = torch.randn(out.shape, dtype=D, generator=g)
        results = [
            [y, *torch.autograd.grad(y, [x, *weights], cotangent, allow_unused=True, materialize_grads=True)]
            for y in (out, torch.cat(want, 1))
        ]
        assert_same(*results)


def test_a_choice_is_the_sequence_of_what_is_evaluated():
    alive = torch.tensor([[True, True], [False, False], [False, True]])
    chosen = DeviceChoice(torch.tensor([1, 0, 1]), alive)
    assert "rows" not in vars(chosen) and len(chosen) == 3 and "rows" not in vars(chosen)
    assert chosen == ((1,), (), (1,)) and (*chosen[1:],) == ((), (1,)) and chosen[0] == (1,)
    assert chosen == DeviceChoice(torch.tensor([1, 1, 1]), alive) and hash(chosen) == hash(((1,), (), (1,)))
    assert chosen != ((0,), (), (1,)) and chosen != 3


def test_the_choice_is_made_and_used_on_the_device(monkeypatch):
    """The device "meta" has no values, so whatever asks for one fails; and nothing crosses to it once tables are there."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # knows no such device
    meta, space = torch.device("meta"), darts(candidates=DARTS_CANDIDATES[3:])
    dag, net = cell(space, MixedEdge(), 1, 0)
    relax, alive = EdgeNormalised(GumbelHard()), all_alive(dag, 5)
    alive[1, 2] = False
    placed, noise = DeviceMask.of(alive, meta), relax.noise(dag, 5, torch.Generator()).to(meta)
    a, x = torch.empty(5, 6, device=meta, requires_grad=True), torch.empty(2, 4, 6, 6, device=meta)
    net, step = net.float().to(meta), torch.empty((), dtype=D, device=meta)

    def evaluate():
        sum(s.sum() for s in node_states(dag, net, [x, x], relax(a, placed, dag, noise, step), 1)).backward()

    evaluate()
    a.grad = None
    with Crossing():
        evaluate()
    assert a.grad is not None
