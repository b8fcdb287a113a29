"""Single cells in the forms that compute them, and that two forms agree."""

from __future__ import annotations

import torch
from torch import nn

import oche
from oche.spaces.mixed_ops import set_step

NHWC = torch.channels_last


def darts(**fields):
    return oche.spaces.darts(**{**dict(channels=4, cells=1, nodes=2, classes=3), **fields})


def cell(space, edge, stride, seed):
    """The edges of one cell: (dag, edges)."""
    torch.manual_seed(seed)
    dag = space.dag
    modules = [edge(space, space.channels, stride if i < dag.inputs else 1) for i, _ in dag.edges]
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
