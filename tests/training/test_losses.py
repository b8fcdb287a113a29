"""The network of a search as a function of its weights."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from oche.training.losses import forward, names


def test_a_parameter_with_two_names_is_replaced_under_both():
    """y = V W W W x, of one layer used twice and another that shares its weight: a W from outside has the gradient of all
    three places, and the network keeps its own."""
    first, second = (nn.Linear(3, 3, bias=False, dtype=torch.float64) for _ in range(2))
    second.weight = first.weight
    net = nn.Sequential(first, nn.Sequential(first, second), nn.Linear(3, 1, bias=False, dtype=torch.float64))
    own = tuple(net.parameters())
    assert names(net) == {"0.weight": 0, "1.1.weight": 0, "2.weight": 1}
    generator = torch.Generator().manual_seed(0)
    w, v = (torch.randn(p.shape, dtype=p.dtype, generator=generator, requires_grad=True) for p in own)
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    before = [p.detach().clone() for p in own]

    of = SimpleNamespace(net=net, names=names(net), own=own)
    out = forward(of, (w, v), x)
    torch.testing.assert_close(out, x @ w.T @ w.T @ w.T @ v.T)
    got = torch.autograd.grad(out.sum(), (w, v))
    want = torch.autograd.grad((x @ w.T @ w.T @ w.T @ v.T).sum(), (w, v))
    torch.testing.assert_close(got, want)
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))
    torch.testing.assert_close(forward(of, own, x), x @ own[0].T @ own[0].T @ own[0].T @ own[1].T)
