"""The single-path form against the plain one: cells, networks and searches with one candidate an edge."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import oche
from cells import NHWC, assert_same, cell, darts
from oche.bilevel.cuda_graph_obstacles import Placed
from oche.bilevel.cuda_graph_replay import refusal, replay
from oche.bilevel.search import Search
from oche.core.architecture import DeviceChoice, Mix, all_alive
from oche.kernels.choose import set_form
from oche.kernels.single_path.cell import form, node_states
from oche.kernels.single_path.ops import CandidateWeight, Choice, convolve, gather_weights
from oche.kernels.single_path.unused_weights import ReachTracker
from oche.methods.hypergradients import FiniteDifference, joint
from oche.methods.recipe import SearchRecipe
from oche.methods.regularizers import BetaDecay
from oche.methods.relaxations import EdgeNormalised, Softmax
from oche.methods.stochastic_relaxations import GumbelHard
from oche.networks import forms
from oche.networks.operations import DARTS, OPERATIONS
from oche.spaces import operation
from oche.spaces.mixed_ops import MixedEdge, PartialEdge, SkipDropout
from oche.training.losses import frozen_statistics
from replayed_searches import DOUBLE, STEPS, A, Crossing, W, differing, run, silent, state
from tape import Plain, Tape
from tiny import dataset
from tiny_text import corpus
from tiny_text import space as recurrent

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


# --- one cell ---------------------------------------------------------------------------------------------------------


def mixture(dag, ops, choice, alive, scales):
    """What `GumbelHard` makes of a choice: weights whose values are one-hot, read on the device."""
    hard = torch.zeros_like(ops).scatter(1, choice[:, None], 1).masked_fill(~alive, 0)
    return Mix(hard + (ops - ops.detach()), scales, DeviceChoice(choice, alive))


def outcome(how, dag, net, inputs, ops, choice, alive, scales, stride):
    """Nodes, gradients of inputs, mixture and weights, and buffers, of one evaluation by ``how``."""
    net = copy.deepcopy(net)
    inputs = [x.clone().requires_grad_() for x in inputs]
    ops, scales = ops.clone().requires_grad_(), None if scales is None else scales.clone().requires_grad_()
    mix = mixture(dag, ops, choice, alive, scales)
    nodes = how(dag, net, [x * 1 for x in inputs], mix, stride)[dag.inputs :]
    assert ("rows" in vars(mix.active)) is (how is forms.node_states)  # whether the choice was read to the host
    g = torch.Generator().manual_seed(3)
    loss = 0 * ops.sum() + sum((torch.randn(n.shape, generator=g, dtype=D) * n).sum() for n in nodes)
    of = [*inputs, ops, *([] if scales is None else [scales]), *net.parameters()]
    return [*nodes, *torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True), *net.buffers()]


def compare(space, edge=MixedEdge(), stride=1, side=(6, 6), batch=3, alive=None, scales=False, choice=None, seed=0):
    dag, net = cell(space, edge, stride, seed)
    count, e, g = len(space.candidates), len(dag), torch.Generator().manual_seed(seed)
    alive = all_alive(dag, count) if alive is None else alive
    if choice is None:
        choice = torch.rand(e, count, generator=g).masked_fill(~alive, 0).argmax(1)
    inputs = [torch.randn(batch, space.channels, *side, dtype=D, generator=g) for _ in range(dag.inputs)]
    weights = torch.rand(e, dtype=D, generator=g) if scales else None
    arguments = dag, net, inputs, torch.randn(e, count, dtype=D, generator=g), choice, alive, weights, stride
    assert_same(outcome(node_states, *arguments), outcome(forms.node_states, *arguments))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [(6, 6), (7, 9), (5, 8), (8, 3), (2, 3), (9, 1)], ids=str)
def test_every_candidate_at_every_size(stride, side):
    """Eight evaluations in which every edge chooses every candidate once."""
    for o in range(8):
        compare(darts(), stride=stride, side=side, choice=(torch.arange(5) + o) % 8, seed=o)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_dead_candidates_dead_edges_edge_weights_and_one_image(stride, seed):
    alive = torch.rand(5, 8, generator=torch.Generator().manual_seed(seed)) > (0.3, 0.5, 0.8, 0.8)[seed]
    alive[seed] = False
    fields = dict(stride=stride, batch=1, side=(7, 6), alive=alive, scales=seed != 1, seed=seed)
    compare(darts(channels=(2, 3, 8, 6)[seed] if stride == 1 else 4), **fields)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_seed_documents_space_and_learnt_scales(stride):
    for seed in range(4):
        compare(oche.spaces.seed(channels=4, nodes=2), stride=stride, side=(7, 6), scales=True, seed=seed)
        compare(darts(channels=6, affine=True, pool_norm=False), stride=stride, seed=seed)


def test_nb201():
    for seed in range(4):
        compare(oche.spaces.nb201(channels=4), side=(5, 6), seed=seed)
        compare(oche.spaces.nb201(channels=3, track=False), scales=True, seed=seed)


@pytest.mark.parametrize("stride", [1, 2])
def test_partial_channels(stride):
    for seed in range(4):
        compare(darts(channels=8), PartialEdge(4), stride, side=(5, 6), scales=seed > 1, seed=seed)
    compare(darts(), PartialEdge(1), stride)
    dead = all_alive(darts().dag, 8)
    dead[2:] = False
    compare(darts(channels=8), PartialEdge(2), stride, alive=dead, choice=torch.tensor([0, 0, 0, 0, 0]))


@pytest.mark.parametrize("stride", [1, 2])
def test_dense_and_separable_ones_together_and_those_of_users(stride):
    names = ("nor_conv_1x1", "nor_conv_3x3", "sep_conv_7x7", "thrice", "skip_connect")
    for o in range(5):
        compare(darts(candidates=names), stride=stride, side=(7, 6), choice=(torch.arange(5) + o) % 5, seed=o)


def test_edges_that_carry_nothing():
    for choice in ([0, 0, 0, 0, 0], [0, 0, 4, 0, 6], [0, 0, 0, 0, 5]):
        compare(darts(), stride=2, choice=torch.tensor(choice))
    compare(darts(), alive=torch.zeros(5, 8, dtype=torch.bool), choice=torch.zeros(5, dtype=torch.int64))
    compare(darts(candidates=("none", "skip_connect")), choice=torch.tensor([0, 1, 1, 0, 1]))
    compare(darts(candidates=("none", "sep_conv_3x3")), choice=torch.tensor([0, 1, 1, 0, 1]))


def test_statistics_stay_where_they_are_when_frozen():
    dag, net = cell(darts(), MixedEdge(), 1, 0)
    x, choice, alive = torch.randn(2, 4, 6, 6, dtype=D), torch.tensor([1, 2, 4, 5, 6]), all_alive(dag, 8)
    mix, before = mixture(dag, torch.randn(5, 8, dtype=D), choice, alive, None), copy.deepcopy(list(net.buffers()))
    with frozen_statistics(net):
        node_states(dag, net, [x, x], mix, 1)
    assert all(torch.equal(one, other) for one, other in zip(before, net.buffers(), strict=True))
    node_states(dag, net, [x, x], mix, 1)
    moved = {name.rsplit(".", 1)[0] for name, b in net.named_buffers() if name.endswith("tracked") and b == 1}
    assert moved == {"0.candidates.1.1", "1.candidates.2.1", "2.candidates.4.3", "2.candidates.4.7", "3.candidates.5.3",
                     "3.candidates.5.7", "4.candidates.6.3"}  # fmt: skip


def test_what_it_does_not_know_is_computed_as_by_the_plain_form():
    dag, net = cell(darts(), MixedEdge(), 1, 0)
    x, ops, alive = torch.randn(2, 4, 6, 6, dtype=D), torch.rand(5, 8, dtype=D), all_alive(darts().dag, 8)
    chosen = mixture(dag, ops, torch.arange(5), alive, None)
    for mix, training in ((Mix(ops, None, ((1, 4), (3,), (), (7,), (0, 2))), True), (chosen, False)):
        net.train(training)
        got, want = (how(dag, copy.deepcopy(net), [x, x], mix, 1) for how in (node_states, forms.node_states))
        assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    dag, net = cell(darts(candidates=("swish_alone", "none")), MixedEdge(), 1, 0)
    mix = mixture(dag, ops[:, :2], torch.tensor([0, 1, 0, 0, 1]), alive[:, :2], None)
    got, want = (how(dag, copy.deepcopy(net), [x, x], mix, 1) for how in (node_states, forms.node_states))
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


# --- parts ------------------------------------------------------------------------------------------------------------


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
    meta, space = torch.device("meta"), darts(candidates=DARTS[3:])
    dag, net = cell(space, MixedEdge(), 1, 0)
    relax, alive = EdgeNormalised(GumbelHard()), all_alive(dag, 5)
    alive[1, 2] = False
    placed, noise = Placed.of(alive, meta), relax.noise(dag, 5, torch.Generator()).to(meta)
    a, x = torch.empty(5, 6, device=meta, requires_grad=True), torch.empty(2, 4, 6, 6, device=meta)
    net, step = net.float().to(meta), torch.empty((), dtype=D, device=meta)

    def evaluate():
        sum(s.sum() for s in node_states(dag, net, [x, x], relax(a, placed, dag, noise, step), 1)).backward()

    evaluate()
    a.grad = None
    with Crossing():
        evaluate()
    assert a.grad is not None


# --- searches ---------------------------------------------------------------------------------------------------------

SMALL = dict(channels=4, cells=3, nodes=2, classes=3, in_channels=1, image=(8, 8))
NB201 = oche.spaces.nb201(channels=4, cells=1, classes=3, in_channels=1, image=(8, 8))
SEARCHES = {
    "first order": (darts(**SMALL), SearchRecipe()),
    "second order": (darts(**{**SMALL, "nodes": 1}), SearchRecipe(hypergrad=FiniteDifference())),
    "one level, a penalty": (darts(**{**SMALL, "nodes": 1}), SearchRecipe(hypergrad=joint, penalty=BetaDecay())),
    "partial channels": (darts(**SMALL), SearchRecipe(relax=EdgeNormalised(GumbelHard()), edge=PartialEdge(2))),
    "the seed document's": (oche.spaces.seed(**{**SMALL, "nodes": 1, "head": (24,)}), SearchRecipe()),
    "NAS-Bench-201": (NB201, SearchRecipe()),
    "no momentum": (NB201, SearchRecipe(weight_optimizer=replace(W, clip=0, momentum=0.0))),
}


def make(name, steps=STEPS, engine=DOUBLE):
    space, method = SEARCHES[name]
    relax = method.method.relax if isinstance(method.method.relax, EdgeNormalised) else GumbelHard((5.0, 0.1))
    w = method.method.weight_optimizer if method.method.weight_optimizer.clip == 0 else W
    return Search(
        space,
        replace(method, relax=relax, arch_optimizer=A, weight_optimizer=w, batch=6, steps=steps),
        dataset(),
        seed=0,
        engine=DOUBLE,
    )


def apart(one, other):
    """Names of what differs by more than 1e-9; momentum of what never moved may be missing, and is zero."""
    names = one.keys() | other.keys()
    zero = torch.zeros((), dtype=D)
    return [k for k in names if (one.get(k, zero) - other.get(k, zero)).abs().max() > 1e-9]


@pytest.mark.parametrize(
    "name, steps", [(name, 50 if name in ("first order", "NAS-Bench-201") else 12) for name in SEARCHES]
)
def test_steps_are_those_of_the_plain_form(name, steps):
    """Weights, momentum, running statistics, logits and meters; what is not reached rests in both."""
    plain, chosen = make(name, steps), make(name, steps)
    assert replay(chosen, silent, Plain())
    for task in (plain, chosen):
        run(task, range(steps))
    assert plain.genotype() == chosen.genotype()
    assert not apart(state(plain), state(chosen))


SINGLE = replace(DOUBLE, dtype=torch.float32)


@pytest.mark.parametrize(
    "name, engine",
    [("second order", DOUBLE), ("partial channels", DOUBLE), ("NAS-Bench-201", DOUBLE), ("NAS-Bench-201", SINGLE)],
)
def test_replayed_steps_are_the_eager_ones(name, engine):
    eager, taped, tape = make(name, engine=engine), make(name, engine=engine), Tape()
    assert replay(eager, silent, Plain()) and replay(taped, silent, tape)
    for task in (eager, taped):
        run(task, range(8))
    assert (tape.recorded, tape.replayed) == (1, 5)
    assert not differing(state(eager), state(taped))


def test_a_narrower_mask_makes_a_new_graph():
    def settle(task):
        alive = {name: mask.clone() for name, mask in task.alive.items()}
        alive["normal"][1], alive["normal"][2, 3:] = False, False
        task._narrow(alive)

    plain, taped, tape = make("first order"), make("first order"), Tape()
    assert replay(taped, silent, tape)
    for task in (plain, taped):
        run(task, range(12), narrow={5: settle})
    assert tape.recorded == 2
    assert not apart(state(plain), state(taped))


NONE, SKIP, SEP = 0, 3, 4
EMPTY = {
    "nothing at all": [NONE] * 5,
    "a convolution of an empty node": [NONE, NONE, SKIP, NONE, SEP],
    "a convolution of an empty node alone": [NONE, NONE, NONE, NONE, SEP],
    "nothing of the last but one cell": [NONE, SEP, NONE, SEP, SEP],
}


@pytest.mark.parametrize("choice", EMPTY.values(), ids=EMPTY)
def test_what_no_loss_depends_on_rests(choice):
    """As in the plain form, also where a gradient is zero by chance: momentum and decay move that."""
    plain, chosen = make("first order"), make("first order")
    assert replay(chosen, silent, Plain())
    for task in (plain, chosen):
        run(task, range(2))
        noise = {name: 100 * F.one_hot(torch.tensor(choice), 8) for name in task.groups}
        task._noise = lambda step, noise=noise: noise
        run(task, range(2, 5))
    assert not apart(state(plain), state(chosen))


def test_nodes_that_lead_nowhere_rest_with_what_stands_before_them():
    """In NAS-Bench-201 the last node alone is used: what enters another one may be chosen, and matter to nobody."""
    choices = [[1, 3, 2, 0, 0, 1], [0, 0, 3, 3, 0, 3], [3, 3, 0, 3, 0, 0], [0, 0, 0, 3, 3, 3], [0] * 6]
    for choice in choices:
        plain, chosen = make("NAS-Bench-201"), make("NAS-Bench-201")
        assert replay(chosen, silent, Plain())
        for task in (plain, chosen):
            run(task, range(2))
            noise = {"cell": 100 * F.one_hot(torch.tensor(choice), 5)}
            task._noise = lambda step, noise=noise: noise
            run(task, range(2, 5))
        assert not apart(state(plain), state(chosen)), choice


def test_evaluations_and_decisions_compute_as_before():
    chosen, before = make("first order"), None
    before = [m.form for m in chosen.net.modules() if isinstance(m, forms.FormModule)]
    replay(chosen, silent, Plain())
    run(chosen)
    assert [m.form for m in chosen.net.modules() if isinstance(m, forms.FormModule)] == before
    assert not chosen.w_opt._optimizer_step_pre_hooks and not chosen.w_opt._optimizer_step_post_hooks


@pytest.mark.parametrize(
    "candidate, edge, words",
    [
        ("swish_alone", MixedEdge(), "candidate 'swish_alone' has no part in a form that all candidates share"),
        ("conv_7x1_1x7", MixedEdge(), "candidate 'conv_7x1_1x7' has no part in a form that all candidates share"),
        ("skip_connect", SkipDropout(0.3), "SkipDropoutOperation is no plain mixed operation"),
    ],
)
def test_what_has_no_part_in_the_form_stays_eager_and_says_so(candidate, edge, words):
    space, method = darts(**SMALL, candidates=("none", candidate)), SearchRecipe(relax=GumbelHard(), edge=edge, steps=9)
    task, said = Search(space, replace(method, batch=6), dataset(), seed=0, engine=DOUBLE), []
    assert not replay(task, said.append, Tape())
    assert said == [f"no CUDA graphs: {refusal(task)}"] and words in said[0] and "\n" not in said[0]


def test_recurrent_cells_stay_eager():
    data = corpus()
    space = recurrent().fit(data)
    task = Search(space, space.suited(SearchRecipe(relax=GumbelHard(), batch=4, steps=9)), data, seed=0, engine=DOUBLE)
    assert "have no form that indexes candidates on the device" in refusal(task)


def test_the_form_goes_into_networks_and_leaves_state_alone():
    torch.manual_seed(0)
    net = darts(**SMALL).supernet()
    names = [*net.state_dict()]
    set_form(net, form(ReachTracker()))
    assert [*net.state_dict()] == names and Softmax().mixes
