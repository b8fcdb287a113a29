"""What every decision keeps to: it narrows the mask, and settles each group by its own view."""

import pytest
import torch
from hypothesis import given

from decision_views import DAG, Court, random_view, seeds
from oche.core.errors import OcheError
from oche.methods.discretize import EachEdge, GreedyEdge, KeepOps, LimitSkips, Perturbation, Threshold, TopK

DECISIONS = [
    TopK(), EachEdge(), KeepOps(2), KeepOps(1, none=False), LimitSkips(), LimitSkips(0), Threshold(), Threshold(0.4),
    GreedyEdge(), GreedyEdge(2), GreedyEdge(start=0.0, every=0.01), Perturbation(),
]  # fmt: skip


@pytest.mark.slow
@given(seeds)
def test_no_decision_widens_the_mask_or_writes_into_the_view(seed):
    for decide in DECISIONS:
        v = random_view(seed)
        before, ops = v.alive.clone(), v.mix.ops.clone()
        kept = decide(v)
        assert kept.dtype == torch.bool and kept.shape == before.shape
        assert not (kept & ~before).any(), decide
        assert torch.equal(v.alive, before) and torch.equal(v.mix.ops, ops)
        assert torch.equal(kept, decide(random_view(seed))), decide  # the same view, the same decision


@given(seeds)
def test_final_selections_leave_a_cell(seed):
    """At most one candidate an edge, never "none", at most two edges a node, and one at least where there is any."""
    for decide in (TopK(), LimitSkips(), LimitSkips(0), Threshold(), Perturbation()):
        v = random_view(seed)
        kept = decide(v)
        assert kept.sum(1).max() <= 1 and not kept[:, 0].any()
        for incoming in map(list, DAG.incoming):
            some = v.usable[incoming].any(1).sum().item()
            least = 1 if isinstance(decide, Threshold) else 2
            assert min(some, least) <= kept[incoming].sum() <= 2, decide


@pytest.mark.parametrize(
    "build",
    [
        lambda: KeepOps(0), lambda: LimitSkips(-1), lambda: Threshold(1.5), lambda: Threshold(float("nan")),
        lambda: GreedyEdge(3), lambda: GreedyEdge(start=-0.1), lambda: GreedyEdge(every=0.0),  # pyright: ignore
        lambda: GreedyEdge(window=0),
    ],
)  # fmt: skip
def test_impossible_values_are_refused(build):
    with pytest.raises(OcheError, match="use "):
        build()


@given(seeds)
def test_a_decision_settles_each_group_by_its_own_view(seed):
    court = Court(seed)
    TopK().conclude(court)
    assert {*court.told} == {"normal", "reduce"}
    assert all(torch.equal(alive, TopK()(court.views[name])) for name, alive in court.told.items())
