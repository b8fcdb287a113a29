"""The flow of a cell in plain torch operations against the plain modules, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import oche
from cells import assert_same, cell, compare, darts, network, outcome
from oche.core.architecture import Mix
from oche.kernels.choose import set_form
from oche.kernels.shared import SHARED, node_states
from oche.methods.relaxations import EdgeNormalised, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import GumbelHard
from oche.networks import forms
from oche.networks.build import build
from oche.networks.operations import OPERATIONS
from oche.spaces import operation
from oche.spaces.mixed_ops import MixedEdge

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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [(6, 6), (7, 9), (5, 8), (8, 3), (2, 2)], ids=str)
def test_all_candidates_at_every_size(stride, side):
    compare(darts(), stride=stride, side=side, seed=side[0])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_dead_candidates_edge_weights_and_one_image(stride, seed):
    compare(
        darts(channels=(2, 3, 6)[seed] if stride == 1 else 4),
        stride=stride,
        batch=1,
        scales=seed != 1,
        dead=2 + seed,
        seed=seed,
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_the_seed_documents_space(stride):
    compare(oche.spaces.seed(channels=4, nodes=2), stride=stride, side=(7, 6), scales=True)
    compare(oche.spaces.seed(channels=4, nodes=2), stride=stride, dead=3)


def test_nb201():
    compare(oche.spaces.nb201(channels=4), side=(5, 6))
    compare(oche.spaces.nb201(channels=3, track=False), scales=True, dead=3)


@pytest.mark.parametrize(
    "relax", [Softmax(), Sigmoid(), GumbelHard(), EdgeNormalised()], ids=lambda r: type(r).__name__
)
def test_relaxations(relax):
    dag, net = cell(darts(), MixedEdge(), 1, 0)
    g = torch.Generator().manual_seed(1)
    alive = torch.rand(len(dag), 8, generator=g) > 0.3
    alive[:, 4] = True
    logits = relax.init(dag, 8, 1.0, g).double()
    inputs = [torch.randn(2, 4, 5, 6, dtype=DOUBLE) for _ in range(2)]

    def result(how):
        a, n = logits.clone().requires_grad_(), copy.deepcopy(net)
        mix = relax(a, alive, dag, relax.noise(dag, 8, torch.Generator().manual_seed(2)), 0.4)
        nodes = how(dag, n, inputs, mix, 1)
        grads = torch.autograd.grad(sum(x.pow(3).sum() for x in nodes), [a, *n.parameters()], allow_unused=True)
        used = [g is not None for g in grads]
        return used, [*nodes, *(g for g in grads if g is not None), *n.buffers()]

    (used, got), (wanted, want) = result(node_states), result(forms.node_states)
    assert used == wanted  # what is not evaluated has no gradient, rather than one of zero
    assert_same(got, want)


SPACES = {
    "darts": darts(cells=3),
    "seed": oche.spaces.seed(channels=4, cells=3, nodes=1, classes=3, image=(9, 8), head=(6,)),
    "nb201": oche.spaces.nb201(channels=4, cells=1, classes=3),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_whole_networks(space):
    x = torch.randn(3, 3, 9, 8, dtype=DOUBLE)
    (one, _, got), (other, _, want) = (network(space, form, x) for form in (SHARED, forms.PLAIN))
    assert_same([*got, *one.buffers()], [*want, *other.buffers()])


HOOKED = [
    "cells.0.edges.0.candidates.4", "cells.0.edges.0.candidates.4.0", "cells.0.edges.1.candidates.1.1", "cells.0.edges.1",
    "cells.0.edges.2.candidates.3", "cells.0.preprocess1",
]  # fmt: skip


def test_hooks_are_called():
    x, called = torch.randn(2, 3, 6, 6, dtype=DOUBLE), []
    hooks = [(name, lambda m, i, o: called.append(m)) for name in HOOKED]
    _, _, got = network(darts(), SHARED, x, hooks)
    assert len(called) == len(HOOKED)
    assert_same(got, network(darts(), forms.PLAIN, x)[2])


def test_single_precision_where_nothing_is_nearly_equal():
    """Smooth candidates and inputs, so that no maximum and hardly a ReLU decides by rounding alone."""
    dag, net = cell(
        darts(channels=16, candidates=("avg_pool_3x3", "skip_connect", "dil_conv_3x3", "dil_conv_5x5")),
        MixedEdge(),
        1,
        0,
    )
    inputs = [torch.randn(16, 16, 8, 8, dtype=DOUBLE) for _ in range(2)]
    ops, active = torch.rand(len(dag), 4, dtype=DOUBLE), (tuple(range(4)),) * len(dag)
    want = outcome(forms.node_states, dag, net, inputs, ops, None, active, 1)
    single = outcome(node_states, dag, net.float(), [x.float() for x in inputs], ops.float(), None, active, 1)
    for g, w in zip(single, want, strict=True):
        g, w = g.double(), w.double()
        assert (g - w).norm() <= 1e-4 * w.norm() + 1e-5


def test_a_nan_is_not_hidden():
    dag, net = cell(darts(candidates=("max_pool_3x3", "sep_conv_3x3")), MixedEdge(), 1, 0)
    x = torch.randn(2, 4, 6, 6, dtype=DOUBLE)
    x[0, 0, 3, 3] = torch.nan
    out = node_states(dag, net, [x, x], Mix(torch.rand(len(dag), 2, dtype=DOUBLE), None, ((0, 1),) * len(dag)), 1)
    assert all(node.isnan().any() for node in out)


def test_final_networks():
    torch.manual_seed(0)
    net = build("DARTS_V2", classes=3, channels=4, cells=3).double().train()
    x = torch.randn(3, 3, 16, 16, dtype=DOUBLE)

    def result(form):
        n = copy.deepcopy(net)
        set_form(n, form)
        torch.manual_seed(5)
        out = n(x)[0] if isinstance(n(x), tuple) else n(x)
        return [out, *torch.autograd.grad(out.square().sum(), list(n.parameters())), *n.buffers()]

    assert_same(result(SHARED), result(forms.PLAIN))


def test_second_derivatives_of_a_cell():
    dag, net = cell(
        darts(nodes=1, candidates=("max_pool_3x3", "skip_connect", "sep_conv_5x5", "dil_conv_3x3")), MixedEdge(), 1, 0
    )
    inputs = [torch.randn(2, 4, 4, 5, dtype=DOUBLE) for _ in range(dag.inputs)]

    def mixed(how):
        ops = torch.full((len(dag), 4), 0.3, dtype=DOUBLE, requires_grad=True)
        out = how(dag, net, inputs, Mix(ops, None, (tuple(range(4)),) * len(dag)), 1)[-1]
        slopes = torch.autograd.grad(out.pow(3).sum(), list(net.parameters()), create_graph=True)
        return [torch.autograd.grad(sum(s.square().sum() for s in slopes), ops)[0]]

    assert_same(mixed(node_states), mixed(forms.node_states))
