"""The strongest operations, and what may be kept of them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from decision_views import DAG, NAMES, random_view, seeds, view
from oche.core.architecture import Dag, Mix, alive_candidates, all_alive, top_k
from oche.methods.discretize import EachEdge, KeepOps, LimitSkips, Threshold, TopK, View

OPERATIONS = ("none", "a", "b")


def small_view(ops, alive, edges=None):
    dag = Dag(nodes=2)
    return View("normal", dag, OPERATIONS, alive, Mix(ops, edges, alive_candidates(alive)), 1.0)


@given(st.integers(0, 10_000))
def test_top_k_ranks_by_the_strength_of_the_mixture(seed):
    g = torch.Generator().manual_seed(seed)
    ops, alive = torch.rand(5, 3, generator=g), torch.rand(5, 3, generator=g) < 0.8
    kept = TopK()(small_view(ops, alive))
    assert torch.equal(kept, top_k(ops, alive, Dag(nodes=2), OPERATIONS))
    assert not (kept & ~alive).any() and not kept[:, 0].any() and kept.sum(1).max() <= 1


def test_the_weight_of_an_edge_counts():
    ops = torch.tensor([[0.0, 0.9, 0.1]] * 5)
    plain = TopK()(small_view(ops, all_alive(Dag(nodes=2), 3)))
    weighed = TopK()(small_view(ops, all_alive(Dag(nodes=2), 3), torch.tensor([0.5, 0.5, 0.1, 0.3, 0.6])))
    assert alive_candidates(plain) == ((1,), (1,), (1,), (1,), ())  # equal strengths: the earliest
    assert alive_candidates(weighed) == ((1,), (1,), (), (1,), (1,))


def test_what_is_settled_stays():
    ops = torch.tensor([[0.1, 0.8, 0.1]] * 5)
    kept = TopK()(small_view(ops, all_alive(Dag(nodes=2), 3)))
    assert torch.equal(TopK()(small_view(1 - ops, kept)), kept)


@given(seeds)
def test_each_edge_keeps_its_strongest_candidate_none_included(seed):
    v = random_view(seed)
    kept = EachEdge()(v)
    for e, row in enumerate(v.alive.tolist()):
        living = [o for o in range(4) if row[o]]
        want = [max(living, key=lambda o: v.mix.ops[e, o].item())] if living else []
        assert kept[e].nonzero().flatten().tolist() == want


@given(seeds, st.integers(1, 5))
def test_keep_ops_keeps_the_strongest_of_each_edge(seed, n):
    v = random_view(seed)
    for none in (True, False):
        kept = KeepOps(n, none)(v)
        for e in range(14):
            living = [o for o in range(4) if v.alive[e, o] and (none or o != 0)]
            want = sorted(sorted(living, key=lambda o: -v.mix.ops[e, o].item())[:n])
            assert kept[e].nonzero().flatten().tolist() == want


def test_keep_ops_narrows_as_p_darts_does():
    g = torch.Generator().manual_seed(3)
    names, dag = ("none", "max", "avg", "skip_connect", "sep3", "sep5", "dil3", "dil5"), Dag()
    alive, sizes = all_alive(dag, 8), []
    for n in (5, 3):
        ops = (torch.rand(14, 8, generator=g) * alive).double()
        alive = KeepOps(n)(view(ops, alive, names=names))
        sizes.append(set(alive.sum(1).tolist()))
    assert sizes == [{5}, {3}]


def test_equal_candidates_the_earlier_stays():
    same = torch.full((14, 4), 0.25)
    assert alive_candidates(KeepOps(2)(view(same))) == ((0, 1),) * 14
    assert alive_candidates(EachEdge()(view(same))) == ((0,),) * 14
    names = tuple(f"op {i}" for i in range(100))  # torch's own order of equals is another one from 17 on
    levels = torch.randint(3, (14, 100), generator=torch.Generator().manual_seed(1)).double()
    for e, row in enumerate(alive_candidates(KeepOps(40)(view(levels, names=names)))):
        assert list(row) == sorted(sorted(range(100), key=lambda o, e=e: -levels[e, o].item())[:40])


def naive_limit(ops, most):
    """P-DARTS' released loop on plain lists: zero the weakest chosen skip, take everything again."""
    w = [[0.0, *row[1:]] for row in ops.tolist()]
    while True:
        best = [max(range(1, 4), key=lambda o: row[o]) for row in w]
        chosen = {}
        for incoming in DAG.incoming:
            for e in sorted(incoming, key=lambda e: -w[e][best[e]])[:2]:
                chosen[e] = best[e]
        skips = [e for e in sorted(chosen) if chosen[e] == 1]
        if len(skips) <= most:
            return chosen
        w[min(skips, key=lambda e: w[e][1])][1] = 0.0


@given(seeds, st.integers(0, 3))
def test_limit_skips_repeats_the_released_loop(seed, most):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(14, 4, generator=g, dtype=torch.float64)
    logits[:, 1] += 2.0  # skips win almost everywhere
    ops = logits.softmax(1)
    kept = LimitSkips(most)(view(ops))
    assert {e: row[0] for e, row in enumerate(alive_candidates(kept)) if row} == naive_limit(ops, most)
    assert kept[:, 1].sum() <= most
    assert torch.equal(LimitSkips(most)(view(ops, group="reduce")), top_k(ops, all_alive(DAG, 4), DAG, NAMES))


def test_a_skip_without_which_a_node_starves_stays():
    names, dag = ("none", "skip_connect"), Dag(nodes=2)
    ops = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5]])
    kept = LimitSkips(2)(view(ops, dag=dag, names=names))
    assert kept.sum() == 4 and kept[:, 1].sum() == 4 and kept[:2, 1].all()  # there is nothing else for any edge
    no_skip = view(ops, dag=dag, names=("none", "sep"))
    assert torch.equal(LimitSkips(0)(no_skip), TopK()(no_skip))


def test_a_skip_that_must_stay_does_not_keep_others():
    """The weakest skip cannot go, since its node would starve: the next weakest goes all the same."""
    names, dag = ("none", "skip_connect", "sep"), Dag(nodes=2)
    alive = all_alive(dag, 3)
    alive[0, 2] = False  # nothing but its skip
    ops = torch.tensor([[0.1, 0.5, 0.0], [0.1, 0.6, 0.3], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.1, 0.3, 0.6]])
    assert alive_candidates(LimitSkips(2)(view(ops, alive, dag=dag, names=names)))[:2] == ((1,), (1,))
    assert alive_candidates(LimitSkips(1)(view(ops, alive, dag=dag, names=names)))[:2] == ((1,), (2,))
    assert alive_candidates(LimitSkips(0)(view(ops, alive, dag=dag, names=names)))[:2] == ((1,), (2,))


@given(seeds)
def test_threshold_keeps_what_is_strong_enough(seed):
    g = torch.Generator().manual_seed(seed)
    ops = (3 * torch.randn(14, 4, generator=g, dtype=torch.float64)).sigmoid()
    kept = Threshold(0.85)(view(ops))
    for incoming in DAG.incoming:
        best = {e: max(range(1, 4), key=lambda o: ops[e, o].item()) for e in incoming}
        two = sorted(incoming, key=lambda e: -ops[e, best[e]].item())[:2]
        want = [e for e in two if ops[e, best[e]] >= 0.85] or two[:1]
        assert [e for e in incoming if kept[e].any()] == sorted(want)
        assert all(kept[e].nonzero().flatten().tolist() == [best[e]] for e in want)


def test_the_threshold_itself_is_strong_enough():
    ops = torch.zeros(5, 4, dtype=torch.float64)
    ops[0, 2], ops[1, 3], ops[2, 1], ops[3, 2] = 0.85, 0.8499, 0.2, 0.1
    kept = Threshold()(view(ops, dag=Dag(nodes=2)))
    assert alive_candidates(kept) == ((2,), (), (1,), (), ())  # node 3 has nothing strong: its strongest
    ops[0, 2], ops[1, 3] = 0.9, 0.85
    assert alive_candidates(Threshold()(view(ops, dag=Dag(nodes=2)))) == ((2,), (3,), (1,), (), ())
