"""Cells and searches with one chosen candidate an edge."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

import oche
from cells import assert_same, cell, darts
from oche.bilevel.search import Search
from oche.core.architecture import DeviceChoice, Mix, all_alive
from oche.kernels.single_path.cell import node_states
from oche.methods.hypergradients import FiniteDifference, joint
from oche.methods.recipe import SearchRecipe
from oche.methods.regularizers import BetaDecay
from oche.methods.relaxations import EdgeNormalised
from oche.methods.stochastic_relaxations import GumbelHard
from oche.networks import forms
from oche.spaces.edge_variants import PartialEdge
from oche.spaces.mixed_ops import MixedEdge
from replayed_searches import DOUBLE, STEPS, A, W
from tiny_images import dataset

D = torch.float64
SMALL = dict(channels=4, cells=3, nodes=2, classes=3, in_channels=1, image=(8, 8))
NB201 = oche.spaces.nb201(channels=4, cells=1, classes=3, in_channels=1, image=(8, 8))


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
