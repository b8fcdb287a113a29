"""The single-path form against the plain one: cells, networks and searches with one candidate an edge."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import oche
from cells import cell, darts
from oche.bilevel.cuda_graph_replay import replay
from oche.core.architecture import Mix, all_alive
from oche.kernels.single_path.cell import node_states
from oche.networks import forms
from oche.networks.operations import OPERATIONS
from oche.spaces import operation
from oche.spaces.mixed_ops import MixedEdge
from oche.training.losses import frozen_statistics
from recorded_graphs import Plain, Tape
from replayed_searches import DOUBLE, differing, run, silent, state
from single_path_cells import SEARCHES, apart, compare, make, mixture

pytestmark = pytest.mark.slow  # whole searches

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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [(6, 6), (7, 9), (5, 8), (8, 3), (2, 3), (9, 1)], ids=str)
def test_every_candidate_at_every_size(stride, side):
    """Eight evaluations in which every edge chooses every candidate once."""
    for o in range(8):
        compare(darts(), stride=stride, side=side, choice=(torch.arange(5) + o) % 8, seed=o)


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
def test_dense_and_separable_ones_together_and_those_of_users(stride):
    names = ("nor_conv_1x1", "nor_conv_3x3", "sep_conv_7x7", "thrice", "skip_connect")
    for o in range(5):
        compare(darts(candidates=names), stride=stride, side=(7, 6), choice=(torch.arange(5) + o) % 5, seed=o)


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


# --- searches ---------------------------------------------------------------------------------------------------------


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


def test_evaluations_and_decisions_compute_as_before():
    chosen, before = make("first order"), None
    before = [m.form for m in chosen.net.modules() if isinstance(m, forms.FormModule)]
    replay(chosen, silent, Plain())
    run(chosen)
    assert [m.form for m in chosen.net.modules() if isinstance(m, forms.FormModule)] == before
    assert not chosen.w_opt._optimizer_step_pre_hooks and not chosen.w_opt._optimizer_step_post_hooks
