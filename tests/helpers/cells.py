"""Single cells in the forms that compute them, and that two forms agree."""

from __future__ import annotations

import copy

import torch
from torch import nn

import oche
from oche.core.architecture import Mix, Shape
from oche.kernels.choose import set_form
from oche.kernels.shared import node_states
from oche.networks import forms
from oche.spaces.mixed_ops import MixedEdge, set_step

NHWC = torch.channels_last


def darts(**fields):
    return oche.spaces.darts(**{**dict(channels=4, cells=1, nodes=2, classes=3), **fields})


def cell(space, edge, stride, seed):
    """The edges of one cell: (dag, edges)."""
    torch.manual_seed(seed)
    dag = space.dag
    modules = [edge(space, Shape.same(space.channels, stride if i < dag.inputs else 1)) for i, _ in dag.edges]
    net = nn.ModuleList(modules).double().to(memory_format=NHWC).train()
    for m in net.modules():  # scale and shift that would show if they were left out
        if isinstance(m, nn.BatchNorm2d) and m.affine:
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -0.5, 0.5)
    set_step(net, 0.3, 7)
    return dag, net


def assert_same(got, want, tolerance=1e-9):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and not g.isnan().any()
        assert (g.double() - w.double()).abs().max() <= tolerance * max(1.0, w.double().abs().max())


DOUBLE = torch.float64


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
