"""The compiled form of a cell against the plain modules, in float64: outputs, all gradients, running statistics."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oche
from oche import methods
from oche.bilevel.search import Search
from oche.core.architecture import Mix
from oche.core.errors import OcheError
from oche.core.optimizers import Adam
from oche.devices.engine import Engine
from oche.kernels.choose import plain_form, set_form
from oche.kernels.cpu import build as native
from oche.kernels.cpu.cell import NATIVE
from oche.kernels.cpu.node import NodeProgram
from oche.methods.hypergradients import FiniteDifference, first_order
from oche.methods.recipe import SearchRecipe
from oche.networks.build import build
from oche.networks.forms import PLAIN, FormModule
from oche.networks.operations import OPERATIONS
from oche.spaces import operation
from oche.spaces.edge_variants import AuxiliarySkip, PartialEdge, PathDropout, SkipDropout
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge, set_step
from oche.training.loop import fit_loop
from oche.training.losses import frozen_statistics
from tiny_images import Kept, dataset, space

try:
    native.load()
except native.Unavailable as reason:
    pytest.skip(f"no compiled kernels here: {reason}", allow_module_level=True)


TOLERANCE = 1e-9


@pytest.fixture(scope="module", autouse=True)
def own_operation():
    """A candidate that no fused form knows."""

    @operation("swish")
    def swish(channels, stride, affine):
        return nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 3, stride, 1, groups=channels))

    yield
    del OPERATIONS["swish"]


def conv(**fields):
    return oche.spaces.darts(**{**dict(channels=4, cells=3, nodes=2, classes=3, image=(8, 8)), **fields})


def mixes(space, seed, edges, dead, dtype=torch.float64):
    """Logits, edge weights and a function from them to mixtures, some candidates of which are dead."""
    g = torch.Generator().manual_seed(seed)
    count = len(space.candidates)
    a = {k: torch.randn(len(d), count, generator=g, dtype=dtype) for k, d in space.groups.items()}
    b = {k: torch.rand(len(d), generator=g, dtype=dtype) for k, d in space.groups.items()}

    def mix(a, b):
        live = [tuple(o for o in range(count) if not dead or (o + e) % 3) for e in range(99)]
        return {k: Mix(a[k].softmax(1), b[k] if edges else None, tuple(live[: len(a[k])])) for k in a}

    return a, b, mix


def outcome(net, form, x, a, b, mix):
    """Logits, gradients of input, architecture and weights, and buffers, after one forward and backward in ``form``."""
    net = copy.deepcopy(net).train()
    set_form(net, form)
    set_step(net, 0.3, 7)
    x, a, b = x.clone().requires_grad_(), *({k: v.clone().requires_grad_() for k, v in t.items()} for t in (a, b))
    out = net(x, mix(a, b))
    loss = F.cross_entropy(out, torch.arange(len(x)) % 3)
    of = [x, *a.values(), *b.values(), *net.parameters()]
    gradients = torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True)
    return [out, *gradients, *net.buffers()]


def assert_same(got, want, tolerance=TOLERANCE):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert not g.isnan().any()
        assert (g.double() - w.double()).abs().max() <= tolerance * max(1.0, w.double().abs().max())


def compare(space, edge=MixedEdge(), side=(8, 8), batch=3, edges=False, dead=False, seed=0):
    torch.manual_seed(seed)
    net = space.supernet(edge).double().to(memory_format=torch.channels_last)
    for m in net.modules():  # scale and shift that would show if they were left out
        if isinstance(m, nn.BatchNorm2d) and m.affine:
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -0.5, 0.5)
    x = torch.randn(batch, space.in_channels, *side, dtype=torch.float64)
    arguments = x, *mixes(space, seed, edges, dead)
    assert_same(outcome(net, NATIVE, *arguments), outcome(net, PLAIN, *arguments))


CHANNELS = {"packed": 4, "one vector of doubles": 8, "padded": 6, "three and six vectors": 24}


@pytest.mark.slow
@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
def test_all_candidates_at_every_width(channels):
    compare(conv(channels=channels))


@pytest.mark.slow
@pytest.mark.parametrize("side", [(9, 11), (8, 9), (10, 8)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_odd_sizes_dead_candidates_and_edge_weights(side, seed):
    compare(conv(channels=(2, 4, 6)[seed]), side=side, edges=seed != 1, dead=seed != 0, seed=seed)


@pytest.mark.slow
def test_a_single_image():
    compare(conv(image=(12, 12)), side=(12, 12), batch=1)


EDGES = {
    "partial": PartialEdge(2), "auxiliary": AuxiliarySkip(), "skip dropout": SkipDropout(0.5), "path dropout": PathDropout(0.5),
    "partial with an auxiliary skip": PartialEdge(2, AuxiliarySkip()),
    "auxiliary beside partial": AuxiliarySkip(of=PartialEdge(2)), "k = 1": PartialEdge(1),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_every_kind_of_edge(edge: EdgeBuilder):
    compare(conv(), edge, edges=True)
    compare(conv(channels=8), edge, side=(9, 8), dead=True)


@pytest.mark.slow
def test_the_other_spaces():
    compare(oche.spaces.seed(channels=4, cells=3, classes=3, image=(8, 8), head=(6,)))
    compare(oche.spaces.nb201(channels=4, cells=1, classes=3), edges=True)
    compare(oche.spaces.nb201(channels=8, cells=1, classes=3), side=(9, 7), dead=True)


def test_rarer_operations_and_those_of_users():
    compare(conv(candidates=("swish", "sep_conv_7x7", "conv_7x1_1x7", "skip_connect", "none")))


def test_an_edge_without_living_candidates_and_a_node_without_any():
    where = conv()
    a, b, _ = mixes(where, 0, False, False)

    def mix(a, b):
        return {k: Mix(a[k].softmax(1), None, ((), (), *[tuple(range(8))] * (len(a[k]) - 2))) for k in a}

    net = where.supernet().double()
    arguments = torch.randn(2, 3, 8, 8, dtype=torch.float64), a, b, mix
    assert_same(outcome(net, NATIVE, *arguments), outcome(net, PLAIN, *arguments))


def test_statistics_stay_where_they_are_when_frozen():
    net = conv().supernet().double().train()
    set_form(net, NATIVE)
    before = copy.deepcopy(list(net.buffers()))
    a, b, mix = mixes(conv(), 0, False, False)
    with frozen_statistics(net):
        net(torch.randn(2, 3, 8, 8, dtype=torch.float64), mix(a, b))
    assert all(torch.equal(x, y) for x, y in zip(before, net.buffers(), strict=True))
    net(torch.randn(2, 3, 8, 8, dtype=torch.float64), mix(a, b))
    assert not all(torch.equal(x, y) for x, y in zip(before, net.buffers(), strict=True))


def test_evaluation_uses_running_statistics():
    where = conv()
    net = where.supernet().double()
    a, b, mix = mixes(where, 0, False, False)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    net.train()(x, mix(a, b))  # moves them
    net.eval()
    want = net(x, mix(a, b))
    set_form(net, NATIVE)
    assert torch.equal(net(x, mix(a, b)), want)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_single_precision_agrees_where_nothing_is_nearly_equal(threads):
    """Against float64: smooth candidates and inputs, so that no ReLU or maximum decides by rounding alone."""
    where = conv(channels=16, candidates=("avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"))
    torch.manual_seed(1)
    net = where.supernet().to(memory_format=torch.channels_last)
    a, b, mix = mixes(where, 0, False, False)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    want = outcome(net.double(), PLAIN, x, a, b, mix)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        single = ({k: v.float() for k, v in t.items()} for t in (a, b))
        got = outcome(net.float(), NATIVE, x.float(), *single, mix)
    finally:
        torch.set_num_threads(before)
    for g, w in zip(got, want, strict=True):
        assert (g.double() - w.double()).norm() <= 2e-3 * w.double().norm() + 1e-5


def test_a_nan_is_not_hidden():
    where = conv(candidates=("max_pool_3x3", "sep_conv_3x3"))
    net = where.supernet().train()
    set_form(net, NATIVE)
    a, b, mix = mixes(where, 0, False, False, torch.float32)
    x = torch.randn(2, 3, 8, 8)
    x[0, 0, 4, 4] = torch.nan
    assert net(x, mix(a, b)).isnan().any()


def test_two_passes_give_the_same_bits():
    where = conv(channels=8)
    net = where.supernet()
    a, b, mix = mixes(where, 0, False, False, torch.float32)
    x = torch.randn(5, 3, 8, 8)
    first, second = (outcome(net, NATIVE, x, a, b, mix) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


def test_the_final_network_and_its_auxiliary_tower():
    genotype = "DARTS_V2"
    torch.manual_seed(0)
    net = build(genotype, classes=3, channels=4, cells=3, auxiliary=True).double().train()
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)

    def result(form):
        n = copy.deepcopy(net)
        set_form(n, form)
        n.set_drop_path(0.3)
        torch.manual_seed(5)
        out, extra = n(x)
        loss = F.cross_entropy(out, torch.arange(3)) + F.cross_entropy(extra, torch.arange(3))
        return [out, extra, *torch.autograd.grad(loss, list(n.parameters())), *n.buffers()]

    assert_same(result(NATIVE), result(PLAIN))


# --- in a search

SMALL = space(channels=4, cells=2, reductions=(1,))


def searched(engine, method, steps=50):
    task = Search(SMALL, replace(method, steps=steps, batch=6), dataset(), seed=3, engine=engine)
    fit_loop(task, task.recipe.length, Kept())
    return task


@pytest.mark.slow
@pytest.mark.parametrize("hypergrad", [first_order, FiniteDifference()], ids=["first", "second"])
def test_fifty_steps_end_in_the_same_architecture(hypergrad):
    method = SearchRecipe(hypergrad=hypergrad, arch_optimizer=Adam(lr=0.01))
    plain, fast = (searched(Engine("cpu", dtype=torch.float64, fused=f), method) for f in ("plain", "fused"))
    assert "compiled" in fast.computes and "plain" in plain.computes
    for got, want in zip(fast.logits, plain.logits, strict=True):
        assert (got - want).abs().max() < 1e-6 and want.detach().std() > 0.05
    assert str(fast.genotype()) == str(plain.genotype())


def test_checkpoints_move_between_forms():
    method = methods.darts(steps=2, batch=6)
    task = searched(Engine("cpu", dtype=torch.float64, fused="fused"), method, 2)
    other = Search(SMALL, method, dataset(), seed=0, engine=Engine("cpu", dtype=torch.float64, fused="plain"))
    other.load(task.state())
    assert all(torch.equal(p, q) for p, q in zip(task.weights, other.weights, strict=True))


def test_gdas_hands_the_kernels_one_candidate_an_edge(monkeypatch):
    seen = []
    own = NodeProgram.__init__
    monkeypatch.setattr(
        NodeProgram, "__init__", lambda self, terms, stats: seen.append(len(terms)) or own(self, terms, stats)
    )
    where = space(channels=4, candidates=("avg_pool_3x3", "skip_connect", "sep_conv_3x3"))
    task = Search(where, methods.gdas(steps=2, batch=6), dataset(), seed=0, engine=Engine("cpu"))
    task.begin(0, 0)
    task.step(0, 0.0)
    edges = sum(len(where.dag) for _ in where.plans)
    preprocessing = 2 * len(where.plans)
    assert sum(seen) == 2 * (edges + preprocessing)  # two losses


def test_second_derivatives_take_the_plain_form():
    net = conv().supernet().double().train()
    set_form(net, NATIVE)
    a, b, mix = mixes(conv(), 0, False, False)
    leaves = {k: v.requires_grad_() for k, v in a.items()}
    loss = net(torch.randn(2, 3, 8, 8, dtype=torch.float64), mix(leaves, b)).square().sum()
    with pytest.raises(OcheError, match=r"second derivatives.*engine='plain'"):
        torch.autograd.grad(loss, leaves["normal"], create_graph=True)
    with plain_form(net):
        assert all(m.form is PLAIN for m in net.modules() if isinstance(m, FormModule))
    assert all(m.form is NATIVE for m in net.modules() if isinstance(m, FormModule))
    task = Search(space(), methods.darts_exact(steps=2), dataset(), seed=0, engine=Engine("cpu"))
    assert "pure torch, for second derivatives" in task.computes
