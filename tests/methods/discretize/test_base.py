"""Decisions look at a view and narrow the mask."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.architecture import Dag, Mix, alive_candidates, all_alive, top_k
from oche.methods.discretize import TopK, View

CANDIDATES = ("none", "a", "b")


def view(ops, alive, edges=None):
    dag = Dag(nodes=2)
    return View("normal", dag, CANDIDATES, alive, Mix(ops, edges, alive_candidates(alive)), 1.0)


@given(st.integers(0, 10_000))
def test_top_k_ranks_by_the_strength_of_the_mixture(seed):
    g = torch.Generator().manual_seed(seed)
    ops, alive = torch.rand(5, 3, generator=g), torch.rand(5, 3, generator=g) < 0.8
    kept = TopK()(view(ops, alive))
    assert torch.equal(kept, top_k(ops, alive, Dag(nodes=2), CANDIDATES))
    assert not (kept & ~alive).any() and not kept[:, 0].any() and kept.sum(1).max() <= 1


def test_the_weight_of_an_edge_counts():
    ops = torch.tensor([[0.0, 0.9, 0.1]] * 5)
    plain = TopK()(view(ops, all_alive(Dag(nodes=2), 3)))
    weighed = TopK()(view(ops, all_alive(Dag(nodes=2), 3), torch.tensor([0.5, 0.5, 0.1, 0.3, 0.6])))
    assert alive_candidates(plain) == ((1,), (1,), (1,), (1,), ())  # equal strengths: the earliest
    assert alive_candidates(weighed) == ((1,), (1,), (), (1,), (1,))


def test_what_is_settled_stays():
    ops = torch.tensor([[0.1, 0.8, 0.1]] * 5)
    kept = TopK()(view(ops, all_alive(Dag(nodes=2), 3)))
    assert torch.equal(TopK()(view(1 - ops, kept)), kept)
