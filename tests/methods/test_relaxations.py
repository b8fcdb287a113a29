"""Softmax over living candidates against the definition, in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.architecture import Dag, all_alive
from oche.methods.relaxations import Softmax, masked_softmax


@st.composite
def rows(draw):
    """Logits and a mask of the same shape, some rows with nothing alive."""
    edges, candidates = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    table = lambda values: [[draw(values) for _ in range(candidates)] for _ in range(edges)]  # noqa: E731
    return table(st.floats(-30, 30)), table(st.booleans())


def naive(row, alive):
    powers = [math.exp(a) if on else 0.0 for a, on in zip(row, alive, strict=True)]
    return [p / sum(powers) if any(alive) else 0.0 for p in powers]


@given(rows())
def test_masked_softmax_is_the_definition(case):
    logits, alive = case
    got = masked_softmax(torch.tensor(logits, dtype=torch.float64), torch.tensor(alive))
    want = torch.tensor([naive(*pair) for pair in zip(logits, alive, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)
    assert (got[~torch.tensor(alive)] == 0).all()


@given(rows())
def test_the_dead_get_exactly_no_gradient_and_the_living_the_right_one(case):
    logits, alive = case
    a, mask = torch.tensor(logits, dtype=torch.float64, requires_grad=True), torch.tensor(alive)
    w = masked_softmax(a, mask)
    cotangent = torch.arange(w.numel(), dtype=torch.float64).view_as(w).cos()
    (w * cotangent).sum().backward()
    p, c = w.detach(), cotangent
    want = p * (c - (p * c).sum(1, keepdim=True))  # dw_i/da_j = w_i (δ_ij − w_j)
    torch.testing.assert_close(a.grad, want, rtol=1e-10, atol=1e-12)
    assert (a.grad[~mask] == 0).all() and a.grad.isfinite().all()


def test_huge_logits_do_not_overflow():
    w = masked_softmax(torch.tensor([[1e30, 0.0, -1e30], [3e38, 3e38, 0.0]]), torch.ones(2, 3, dtype=torch.bool))
    assert torch.equal(w, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))


def test_mixture_of_a_cell():
    dag = Dag(nodes=1)
    alive = all_alive(dag, 3)
    alive[0, 1], alive[1] = False, False
    mix = Softmax()(torch.zeros(2, 3), alive, dag, None, 0.5)
    assert mix.edges is None and mix.active == ((0, 2), ())
    assert torch.equal(mix.ops, torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]))
    assert mix.strength() is mix.ops


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_deterministic_whatever_the_progress(progress):
    dag, relax = Dag(), Softmax()
    a = torch.randn(14, 8)
    assert relax.noise(dag, 8, torch.Generator()) is None
    assert torch.equal(relax(a, all_alive(dag, 8), dag, None, progress).ops, a.softmax(1))


def test_logits_start_near_zero_or_at_it():
    dag, relax = Dag(), Softmax()
    make = lambda scale, seed: relax.init(dag, 8, scale, torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(make(0.0, 1), torch.zeros(14, 8))
    assert torch.equal(make(1e-3, 1), make(1e-3, 1)) and not torch.equal(make(1e-3, 1), make(1e-3, 2))
    many = torch.stack([make(1e-3, seed) for seed in range(100)])
    assert many.std().item() == pytest.approx(1e-3, rel=0.05) and abs(many.mean().item()) < 3e-5
