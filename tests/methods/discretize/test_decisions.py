"""Decisions of the DARTS family against their rules written out in plain Python."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oche.core.architecture import Dag, Mix, alive_candidates, all_alive, top_k
from oche.core.errors import OcheError
from oche.methods.discretize import (
    EachEdge,
    Evolution,
    GreedyEdge,
    KeepOps,
    LimitSkips,
    Perturbation,
    SampleBest,
    Threshold,
    TopK,
    View,
)
from oche.methods.discretize.darts_pt import _shuffled
from oche.methods.discretize.successive import draw, mutate

NAMES = ("none", "skip_connect", "sep", "dil")
DAG = Dag()  # 14 edges
seeds = st.integers(0, 10_000)


def view(ops, alive=None, *, dag=DAG, names=NAMES, progress=1.0, edges=None, group="normal", **fields):
    alive = all_alive(dag, len(names)) if alive is None else alive
    return View(group, dag, names, alive, Mix(ops, edges, alive_candidates(alive)), progress, **fields)


def random_view(seed, share=0.8, **fields):
    """Softmax weights among a random mask; some edges may be without candidates."""
    g = torch.Generator().manual_seed(seed)
    alive = torch.rand(14, 4, generator=g) < share
    ops = (torch.randn(14, 4, generator=g).exp() * alive).double()
    ops = ops / ops.sum(1, keepdim=True).clamp_min(1e-30)
    edges = torch.rand(14, generator=g) if seed % 2 else None
    recent = (*(torch.rand(14, 4, generator=g) for _ in range(seed % 7)), ops)
    table = torch.rand(14, 4, generator=g)
    means = dict(
        evaluate=lambda mask: float((table * mask).sum()),
        tune=lambda mask: None,
        generator=torch.Generator().manual_seed(seed),
    )
    progress = torch.rand((), generator=g).item()
    return view(ops, alive, edges=edges, recent=recent, progress=progress, **means, **fields)


DECISIONS = [
    TopK(), EachEdge(), KeepOps(2), KeepOps(1, none=False), LimitSkips(), LimitSkips(0), Threshold(), Threshold(0.4),
    GreedyEdge(), GreedyEdge(2), GreedyEdge(start=0.0, every=0.01), Perturbation(),
]  # fmt: skip


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


# --- EachEdge, KeepOps ------------------------------------------------------------------------------------------------


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


# --- LimitSkips -------------------------------------------------------------------------------------------------------


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


# --- Threshold --------------------------------------------------------------------------------------------------------


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


# --- GreedyEdge -------------------------------------------------------------------------------------------------------


def scale(values):
    low, high = min(values.values()), max(values.values())
    return {e: (v - low) / (high - low) if high > low else 0.0 for e, v in values.items()}


def naive_scores(ops, history, criterion):
    """SGAS' scores of all edges, everything undecided, over plain lists."""

    def p(row):
        total = sum(row[1:])
        return [w / total for w in row[1:]]

    rows = ops.tolist()
    importance = {e: sum(row[1:]) for e, row in enumerate(rows)}
    certainty = {e: 1 + sum(x * math.log(x) for x in p(row)) / math.log(3) for e, row in enumerate(rows)}
    factors = [scale(importance), scale(certainty)]
    if criterion == 2:
        stability = {
            e: sum(sum(map(min, p(old[e]), p(row))) for old in history) / len(history) for e, row in enumerate(rows)
        }
        factors.append(scale(stability))
    return {e: math.prod(f[e] for f in factors) for e in importance}


@given(seeds, st.sampled_from([1, 2]), st.integers(2, 9))
def test_greedy_scores_are_those_of_sgas(seed, criterion, epochs):
    g = torch.Generator().manual_seed(seed)
    recent = tuple(torch.randn(14, 4, generator=g, dtype=torch.float64).softmax(1) for _ in range(epochs))
    decide = GreedyEdge(criterion)
    v = view(recent[-1], recent=recent, progress=0.2)
    scores, _ = decide.scores(v)
    want = naive_scores(recent[-1], [w.tolist() for w in recent[:-1][-4:]], criterion)
    torch.testing.assert_close(scores, torch.tensor([want[e] for e in range(14)], dtype=torch.float64))
    kept = decide(v)
    first = max(want, key=lambda e: want[e])
    assert (kept.sum(1) == 1).nonzero().flatten().tolist() == [first]
    assert kept[first].nonzero().item() == 1 + recent[-1][first, 1:].argmax().item()
    assert kept[[e for e in range(14) if e != first]].all()  # no other edge has changed


def test_the_published_recipe_settles_an_edge_every_five_epochs():
    decide = GreedyEdge()
    due = [decide.due(done / 50) for done in range(51)]
    assert due == [0] * 9 + [1 + (done - 9) // 5 for done in range(9, 51)]
    assert GreedyEdge(start=0.0, every=1.0).due(0.0) == 1


def test_a_whole_search_settles_two_edges_a_node_in_the_order_of_scores():
    g = torch.Generator().manual_seed(5)
    logits = torch.randn(14, 4, generator=g, dtype=torch.float64)
    alive, decide, counts = all_alive(DAG, 4), GreedyEdge(), []
    for done in range(1, 51):
        ops = logits.masked_fill(~alive & alive.any(1, keepdim=True), -torch.inf).softmax(1) * alive.any(1)[:, None]
        v = view(ops, alive, progress=done / 50)
        scaled, raw = decide.scores(v)
        after = decide(v)
        settled = [e for e in range(14) if after[e].sum() == 1 and alive[e].sum() > 1]
        undecided = [e for e in range(14) if alive[e].sum() > 1]
        if settled:
            assert settled == [max(undecided, key=lambda e: (scaled[e].item(), raw[e].item()))]
        alive = after
        counts.append(int((alive.sum(1) == 1).sum()))
        assert all(2 - alive[list(i)].any(1).sum() <= 0 for i in DAG.incoming)
    assert counts == [min(8, decide.due(done / 50)) for done in range(1, 51)]
    assert [int(alive[list(i)].sum()) for i in DAG.incoming] == [2, 2, 2, 2] and not alive[:, 0].any()
    assert int(alive.sum()) == 8


def test_a_short_run_settles_several_edges_at_once():
    g = torch.Generator().manual_seed(2)
    ops = torch.randn(14, 4, generator=g, dtype=torch.float64).softmax(1)
    scaled, _ = GreedyEdge().scores(view(ops))
    kept = GreedyEdge()(view(ops, progress=0.4))  # three are due
    settled = [e for e in range(14) if kept[e].sum() == 1]
    node = {e: n for n, incoming in enumerate(DAG.incoming) for e in incoming}
    want, free = [], [2] * 4
    for e in sorted(range(14), key=lambda e: -scaled[e].item()):
        if len(want) < 3 and free[node[e]]:
            want.append(e)
            free[node[e]] -= 1
    assert settled == sorted(want)
    whole = GreedyEdge()(view(ops, progress=1.0))
    assert [int(whole[list(i)].sum()) for i in DAG.incoming] == [2, 2, 2, 2] and whole.sum(1).max() == 1


def test_two_edges_that_each_lead_in_one_factor_are_told_apart():
    dag = Dag(nodes=1, inputs=2)
    ops = torch.tensor([[0.9, 0.05, 0.04, 0.01], [0.1, 0.3, 0.3, 0.3]], dtype=torch.float64)
    scaled, raw = GreedyEdge().scores(view(ops, dag=dag))
    assert scaled.tolist() == [0, 0] and raw[0] > raw[1]  # sure but slight; weighty but unsure: certainty is nil
    kept = GreedyEdge()(view(ops, dag=dag, progress=0.2))
    assert alive_candidates(kept) == ((1,), (0, 1, 2, 3))


def uneven():
    """Five edges into two nodes with two, three or four living candidates each."""
    dag = Dag(nodes=2)
    alive = torch.tensor(
        [
            [True] * 4,
            [False, True, True, False],
            [True, True, True, False],
            [True, False, True, True],
            [False, True, True, True],
        ]
    )
    ops = torch.tensor([[1.0, 5, 3, 1], [0, 3, 1, 0], [3, 2, 5, 0], [1, 0, 6, 3], [0, 3, 3, 4]], dtype=torch.float64)
    return dag, alive, ops / ops.sum(1, keepdim=True)


def test_certainty_is_relative_to_the_number_of_candidates():
    dag, alive, ops = uneven()
    scaled, raw = GreedyEdge().scores(view(ops, alive, dag=dag))
    importance, certainty = {}, {}
    for e in range(5):
        w = [ops[e, o].item() for o in (1, 2, 3) if alive[e, o]]
        importance[e] = sum(w)
        certainty[e] = 1 + sum(x / sum(w) * math.log(x / sum(w)) for x in w) / math.log(len(w))
    torch.testing.assert_close(raw.tolist(), [importance[e] * certainty[e] for e in range(5)])
    want = [a * b for a, b in zip(scale(importance).values(), scale(certainty).values(), strict=True)]
    torch.testing.assert_close(scaled.tolist(), want)


def test_an_edge_with_one_operation_beside_none_is_not_settled_yet():
    """Of three undecided edges into a node that keeps two: it counts as none of them, and can be the one that is settled."""
    dag, names = Dag(nodes=1, inputs=3), ("none", "sep", "dil")
    alive = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    ops = torch.tensor([[0.1, 0.9, 0.0], [0.4, 0.35, 0.25], [0.5, 0.3, 0.2]], dtype=torch.float64)
    kept = GreedyEdge()(view(ops, alive, dag=dag, names=names, progress=0.2))  # one is due: the surest and weightiest
    assert alive_candidates(kept) == ((1,), (0, 1, 2), (0, 1, 2))
    settled = torch.tensor(
        [[True, False, False], [False, True, False], [False, False, True]]
    )  # the first carries nothing
    assert torch.equal(GreedyEdge()(view(ops, settled, dag=dag, names=names, progress=1.0)), settled)


def test_edges_that_are_all_alike_score_alike():
    scaled, raw = GreedyEdge().scores(view(torch.full((14, 4), 0.25, dtype=torch.float64)))
    assert scaled.tolist() == [0.0] * 14 and raw.unique().numel() == 1


def test_stability_without_a_past_counts_for_nothing():
    g = torch.Generator().manual_seed(9)
    ops = torch.randn(14, 4, generator=g).softmax(1)
    for recent in ((), (ops,)):
        v = view(ops, recent=recent, progress=0.2)
        assert torch.equal(GreedyEdge(2)(v), GreedyEdge(1)(v))


# --- Perturbation -----------------------------------------------------------------------------------------------------


class Oracle:
    """A supernet whose accuracy is a sum of what each living candidate adds; remembers what it was asked."""

    def __init__(self, gains):
        self.gains, self.asked, self.tuned = gains, [], []

    def evaluate(self, mask):
        self.asked.append(mask.clone())
        return float((self.gains * mask).sum())

    def tune(self, mask):
        self.tuned.append(mask.clone())

    def view(self, ops, seed=0, **fields):
        g = torch.Generator().manual_seed(seed)
        return view(ops, evaluate=self.evaluate, tune=self.tune, generator=g, **fields)


@given(seeds)
def test_perturbation_ranks_by_measured_drops_and_not_by_weight(seed):
    g = torch.Generator().manual_seed(seed)
    gains, ops = torch.rand(14, 4, generator=g), torch.rand(14, 4, generator=g)
    oracle = Oracle(gains)
    kept = Perturbation()(oracle.view(ops, seed))
    best = {e: 1 + gains[e, 1:].argmax().item() for e in range(14)}
    want = {}
    for incoming in DAG.incoming:
        for e in sorted(incoming, key=lambda e: -gains[e, best[e]].item())[:2]:
            want[e] = best[e]
    assert {e: row[0] for e, row in enumerate(alive_candidates(kept)) if row} == want
    # 3 candidates on each of 14 edges; then the edges of the three nodes that have more than two
    assert len(oracle.asked) == 3 * 14 + 3 + 4 + 5 and len(oracle.tuned) == 14 + 3
    assert torch.equal(oracle.tuned[-1], kept)


def test_each_question_differs_from_what_is_alive_by_what_is_removed():
    oracle = Oracle(torch.rand(14, 4))
    Perturbation()(oracle.view(torch.rand(14, 4), seed=4))
    alive, asked, order = all_alive(DAG, 4), iter(oracle.asked), []
    for tuned in oracle.tuned[:14]:
        questions = [alive & ~next(asked) for _ in range(3)]
        (e,) = {int(q.any(1).nonzero()) for q in questions}
        assert [q[e].nonzero().item() for q in questions] == [1, 2, 3]  # "none" is not asked about, but stays meanwhile
        assert (tuned[e].sum(), alive[e].sum()) == (1, 4)
        order.append(e)
        alive = tuned
    assert sorted(order) == list(range(14)) and order != sorted(order)
    again = Oracle(oracle.gains)
    Perturbation()(again.view(torch.rand(14, 4), seed=4))
    assert all(map(torch.equal, oracle.asked, again.asked))
    other = Oracle(oracle.gains)
    Perturbation()(other.view(torch.rand(14, 4), seed=5))
    assert not all(map(torch.equal, oracle.asked, other.asked))


def test_perturbation_sees_the_supernet_as_it_decides():
    """Two candidates of one edge each make the other useless: only the second question, asked after the first, shows it."""
    names, dag = ("a", "b"), Dag(nodes=1, inputs=2)

    def evaluate(mask):  # edge 0 wants a; edge 1 wants b only once edge 0 has settled
        return float(mask[0, 0]) + (float(mask[1, 1]) if mask[0].sum() == 1 else float(mask[1, 0]))

    orders = set()
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        kept = Perturbation()(
            view(torch.ones(2, 2), dag=dag, names=names, evaluate=evaluate, tune=lambda m: None, generator=g)
        )
        orders.add(alive_candidates(kept))
    assert orders == {((0,), (1,)), ((0,), (0,))}


def test_the_order_is_drawn_where_the_generator_is_whatever_the_default_device():
    one, two = (torch.Generator().manual_seed(3) for _ in range(2))
    with torch.device("meta"):
        found = _shuffled(range(20), one)
    assert found == _shuffled(range(20), two) and sorted(found) == list(range(20)) != found


def test_equal_drops_keep_the_earlier():
    oracle = Oracle(torch.zeros(14, 4))
    kept = Perturbation()(oracle.view(torch.rand(14, 4)))
    assert [row[0] for row in alive_candidates(kept) if row] == [1] * 8
    assert all([e for e in i if kept[e].any()] == list(i[:2]) for i in DAG.incoming)


def test_none_wins_edges_where_the_cell_can_say_so():
    gains = torch.zeros(6, 4)
    gains[:, 0] = torch.tensor([1.0, 0, 1, 0, 1, 0])
    gains[:, 2] = 0.5
    ops = torch.rand(6, 4)
    bench = Dag(nodes=3, inputs=1, keep=3, none=True)  # NAS-Bench-201 keeps all edges
    kept = Perturbation()(Oracle(gains).view(ops, dag=bench))
    assert alive_candidates(kept) == ((0,), (2,), (0,), (2,), (0,), (2,))
    kept = Perturbation()(Oracle(gains).view(ops, dag=replace(bench, none=False)))
    assert alive_candidates(kept) == ((2,),) * 6


def test_sgas_settles_on_operations_even_where_none_is_allowed():
    ops = torch.tensor([[0.7, 0.1, 0.15, 0.05]] * 6)
    kept = GreedyEdge()(view(ops, dag=Dag(nodes=3, inputs=1, keep=3, none=True)))
    assert alive_candidates(kept) == ((2,),) * 6


def test_what_is_settled_is_not_asked_about():
    alive = torch.zeros(14, 4, dtype=torch.bool)
    alive[:2, 2] = alive[2:4, 3] = True
    alive[5] = torch.tensor([True, True, False, False])  # one candidate beside "none": nothing to measure
    oracle = Oracle(torch.rand(14, 4))
    kept = Perturbation()(oracle.view(torch.rand(14, 4), alive=alive))
    assert not oracle.asked and alive_candidates(kept)[:6] == ((2,), (2,), (3,), (3,), (), (1,))


def test_an_edge_that_lives_by_none_alone_is_no_source():
    """A node that keeps two of three edges, one of which has nothing but "none": there is nothing to choose."""
    dag, names = Dag(nodes=1, inputs=3), ("none", "sep")
    alive = torch.tensor([[True, False], [False, True], [False, True]])
    oracle = Oracle(torch.tensor([[9.0, 0.0], [0.0, 1.0], [0.0, 2.0]]))
    assert alive_candidates(Perturbation()(oracle.view(torch.ones(3, 2), alive=alive, dag=dag, names=names))) == (
        (),
        (1,),
        (1,),
    )
    assert not oracle.asked and not oracle.tuned


# --- bad input --------------------------------------------------------------------------------------------------------


def test_perturbation_refuses_bare_logits():
    v = view(torch.rand(14, 4))
    with pytest.raises(OcheError, match=r"no evaluate and no tune and no generator; use .*TopK"):
        Perturbation()(v)
    with pytest.raises(OcheError, match="no tune;"):
        Perturbation()(replace(v, evaluate=lambda mask: 0.0, generator=torch.Generator()))


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


# --- the end of a search ----------------------------------------------------------------------------------------------


class Court:
    """A search that has ended, of two groups; remembers what it was asked and told."""

    def __init__(self, seed=0, generator=None):
        self.views = {
            name: replace(random_view(seed + i), group=name, generator=generator)
            for i, name in enumerate(("normal", "reduce"))
        }
        self.groups = {name: v.dag for name, v in self.views.items()}
        self.told, self.asked = {}, []

    def view(self, group):
        return self.views[group]

    def narrow(self, group, alive):
        self.told[group] = alive

    def accuracy(self, alive, images=None):
        self.asked.append(images)
        return float(
            sum((mask * view.mix.ops).sum() for mask, view in zip(alive.values(), self.views.values(), strict=True))
        )

    def random(self, generator):
        return {name: draw(view.usable, view.dag, generator) for name, view in self.views.items()}


@given(seeds)
def test_a_decision_settles_each_group_by_its_own_view(seed):
    court = Court(seed)
    TopK().conclude(court)
    assert {*court.told} == {"normal", "reduce"}
    assert all(torch.equal(alive, TopK()(court.views[name])) for name, alive in court.told.items())


@pytest.mark.parametrize(("finalists", "images", "whole"), [(1, 64, 0), (2, 64, 2), (3, 64, 3), (3, None, 0)], ids=str)
def test_finalists_are_tried_on_every_image_where_there_is_a_choice(finalists, images, whole):
    court = Court(generator=torch.Generator().manual_seed(0))
    SampleBest(count=8, images=images, finalists=finalists).conclude(court)
    assert court.asked == [images] * 8 + [None] * whole


def test_what_a_sampling_needs_and_cannot_do_is_said_in_full():
    with pytest.raises(OcheError) as caught:
        SampleBest().conclude(Court())
    assert str(caught.value) == "SampleBest draws architectures, but was given no generator; give View.generator"
    with pytest.raises(OcheError) as caught:
        Evolution()(random_view(0))
    assert str(caught.value) == (
        "Evolution compares whole architectures at the end of a search; use it as select=, not as decide= or the finish of a "
        "stage"
    )


def test_a_candidate_that_its_new_source_has_not_becomes_one_that_it_has():
    """One node, three sources, one kept: with "a", which the other two lack. They have "b", and "b" or "c"."""
    dag, names = Dag(nodes=1, inputs=3, keep=1), ("a", "b", "c")
    alive = torch.tensor([[True, False, False], [False, True, False], [False, True, True]])
    v = view(torch.full((3, 3), 1 / 3), alive, dag=dag, names=names)
    parent, g = (
        {"normal": torch.tensor([[True, False, False], [False] * 3, [False] * 3])},
        torch.Generator().manual_seed(0),
    )
    drawn = [alive_candidates(mutate(parent, {"normal": v}, g)["normal"]) for _ in range(2000)]
    seen = Counter(drawn)
    want = {((), (1,), ()): 1 / 2, ((), (), (1,)): 1 / 4, ((), (), (2,)): 1 / 4}
    assert seen.keys() == want.keys()
    assert all(abs(seen[cell] / 2000 - share) < 0.05 for cell, share in want.items())
    g.manual_seed(0)
    assert [alive_candidates(mutate(parent, {"normal": v}, g)["normal"]) for _ in range(100)] == drawn[:100]
