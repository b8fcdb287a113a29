"""Walks over modules: against torch's own."""

from __future__ import annotations

import pytest
from torch import nn

import oche
from oche.networks.modules import iter_modules


def shared() -> nn.Module:
    """A module that stands in two places, one of them deeper and first, and a place without one."""
    part = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    net = nn.Sequential(nn.Sequential(nn.Identity(), part), nn.Tanh(), part, part[1])
    net.register_module("nothing", None)
    return net


@pytest.mark.parametrize("net", [shared(), nn.Linear(1, 1), oche.build("DARTS_V2", classes=3)], ids=type)
def test_as_torch_walks(net):
    assert [id(m) for m in iter_modules(net)] == [id(m) for m in net.modules()]


def test_a_module_within_itself_is_met_once():
    net = nn.Sequential(nn.ReLU())
    net.add_module("again", net)
    assert [*iter_modules(net)] == [*net.modules()] == [net, net[0]]
