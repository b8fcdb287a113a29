"""The flow of a cell in plain torch operations against the plain modules, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

import oche
from cells import NHWC, assert_same, cell, darts
from oche.core.architecture import Mix
from oche.kernels.batchnorm import Term, weighted_sum
from oche.kernels.choose import set_form
from oche.kernels.depthwise import depthwise, supports
from oche.kernels.shared import SHARED, node_states
from oche.methods.relaxations import EdgeNormalised, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import GumbelHard
from oche.networks import forms
from oche.networks.build import build
from oche.networks.operations import OPERATIONS
from oche.spaces import mixed_ops as edges
from oche.spaces import operation
from oche.spaces.mixed_ops import AuxiliarySkip, MixedEdge, PartialEdge, PathDropout, SkipDropout
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


def outcome(how, dag, net, inputs, ops, scales, active, stride):
    """Nodes, gradients of inputs, weights and mixture, and buffers, of one evaluation by ``how``."""
    net = copy.deepcopy(net)
    inputs = [x.clone().requires_grad_() for x in inputs]
    ops, scales = ops.clone().requires_grad_(), None if scales is None else scales.clone().requires_grad_()
    nodes = how(dag, net, [x * 1 for x in inputs], Mix(ops, scales, active), stride)[dag.inputs :]
    g = torch.Generator().manual_seed(3)
    loss = 0 * ops.sum() + sum((torch.randn(n.shape, generator=g, dtype=DOUBLE) * n).sum() for n in nodes)
    of = [*inputs, ops, *([] if scales is None else [scales]), *net.parameters()]
    return [*nodes, *torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True), *net.buffers()]


def compare(space, edge=MixedEdge(), stride=1, side=(6, 6), batch=3, scales=False, dead=0, seed=0):
    """``dead``: of how many candidates of an edge, counted round, one is dead."""
    dag, net = cell(space, edge, stride, seed)
    count, e = len(space.candidates), len(dag)
    inputs = [torch.randn(batch, space.channels, *side, dtype=DOUBLE) for _ in range(dag.inputs)]
    ops = torch.randn(e, count, dtype=DOUBLE).softmax(1)
    active = tuple(tuple(o for o in range(count) if not dead or (o + i) % dead) for i in range(e))
    arguments = dag, net, inputs, ops, torch.rand(e, dtype=DOUBLE) if scales else None, active, stride
    assert_same(outcome(node_states, *arguments), outcome(forms.node_states, *arguments))


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


@pytest.mark.parametrize("stride", [1, 2])
def test_rarer_operations_and_those_of_users(stride):
    compare(darts(candidates=("swish", "biased", "sep_conv_7x7", "conv_7x1_1x7", "none")), stride=stride, side=(7, 6))


class Twice(edges.MixedOperation):
    """What a user may write."""

    def evaluate(self, o, x):
        return 2 * super().evaluate(o, x)


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
    "a user's": Twice,
    "partial of a user's": PartialEdge(2, Twice),
    "by channels": lambda space, channels, stride: PartialEdge(2 if stride == 2 else 4)(space, channels, stride),
}


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


# --- networks ---------------------------------------------------------------------------------------------------------


def network(space, form, x, hooks=()):
    torch.manual_seed(0)
    net = space.supernet().double().train()
    set_form(net, form)
    for name, hook in hooks:
        net.get_submodule(name).register_forward_hook(hook)
    g, count = torch.Generator().manual_seed(5), len(space.candidates)
    weights = {k: torch.randn(len(d), count, generator=g, dtype=DOUBLE).softmax(1) for k, d in space.groups.items()}
    mix = {k: Mix(w, None, (tuple(range(5)),) * len(w)) for k, w in weights.items()}
    out = net(x, mix)
    return (
        net,
        mix,
        [
            out,
            *torch.autograd.grad(out.square().sum(), list(net.parameters()), allow_unused=True, materialize_grads=True),
        ],
    )


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


def test_a_map_of_one_pixel_is_refused_as_by_batchnorm():
    dag, net = cell(darts(), MixedEdge(), 1, 0)
    inputs, mix = [torch.randn(1, 4, 1, 1, dtype=DOUBLE)] * 2, Mix(torch.rand(len(dag), 8), None, ((4, 5),) * len(dag))
    for how in (forms.node_states, node_states):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            how(dag, net, inputs, mix, 1)


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


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_depthwise(kernel, stride, dilation):
    for side in ((8, 8), (7, 5), (6, 9), (3, 3), (1, 2)):
        x = torch.randn(2, 3, *side, dtype=DOUBLE).to(memory_format=NHWC).requires_grad_()
        w = torch.randn(3, 1, kernel, kernel, dtype=DOUBLE, requires_grad=True)
        results = []
        for out in (
            depthwise(x, w, stride, dilation),
            F.conv2d(x, w, None, stride, dilation * (kernel // 2), dilation, 3),
        ):
            results.append([out, *torch.autograd.grad(out.pow(3).sum(), (x, w))])
        assert_same(*results)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_second_derivatives_of_depthwise(stride, dilation):
    x = torch.randn(1, 2, 4, 5, dtype=DOUBLE, requires_grad=True)
    w = torch.randn(2, 1, 5, 5, dtype=DOUBLE, requires_grad=True)
    assert gradgradcheck(lambda x, w: depthwise(x, w, stride, dilation), (x, w))


def test_what_depthwise_can_do():
    assert supports(nn.Conv2d(4, 4, 5, 2, 2, groups=4, bias=False))
    assert supports(nn.Conv2d(4, 4, 5, 2, 4, 2, groups=4, bias=False))
    for different in (
        nn.Conv2d(4, 4, 5, 1, 2, groups=4),
        nn.Conv2d(4, 8, 5, 1, 2, groups=4, bias=False),
        nn.Conv2d(4, 4, 5, 1, 1, groups=4, bias=False),
        nn.Conv2d(4, 4, (1, 7), 1, (0, 3), groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 2, 3, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False, padding_mode="reflect"),
        nn.Conv2d(4, 4, 5, 1, "same", groups=4, bias=False),
    ):
        assert not supports(different)


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
