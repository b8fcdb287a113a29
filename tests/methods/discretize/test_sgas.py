"""SGAS settles edges one by one, by scores written out in plain Python."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from decision_views import DAG, scale, seeds, view
from oche.core.architecture import Dag, Mix, alive_candidates, all_alive
from oche.methods.discretize import GreedyEdge


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


@given(seeds, st.sampled_from([1, 2]))
def test_decided_edges_count_in_the_scale_unless_it_is_of_open_ones(seed, criterion):
    """The released code takes minimum and maximum over all edges, decided ones with the weights of their logits."""
    g = torch.Generator().manual_seed(seed)
    recent = tuple(torch.randn(14, 4, generator=g, dtype=torch.float64).softmax(1) for _ in range(5))
    whole = Mix(recent[-1], None, alive_candidates(all_alive(DAG, 4)))
    alive = all_alive(DAG, 4)
    alive[1], alive[6] = torch.tensor([False, False, True, False]), False  # one decided, one closed
    mixed = recent[-1] * alive / (recent[-1] * alive).sum(1, keepdim=True).clamp_min(1e-30)
    v = view(mixed, alive, recent=recent, undecided_mix=whole)
    open_ = [e for e in range(14) if e not in (1, 6)]
    history = [w.tolist() for w in recent[:-1]]
    everywhere = naive_scores(recent[-1], history, criterion)
    scores = GreedyEdge(criterion).scores(v)[0]
    torch.testing.assert_close(scores[open_], torch.tensor([everywhere[e] for e in open_], dtype=torch.float64))
    among = naive_scores(recent[-1][open_], [[h[e] for e in open_] for h in history], criterion)
    scores = GreedyEdge(criterion, scale="open").scores(v)[0]
    torch.testing.assert_close(scores[open_], torch.tensor([*among.values()], dtype=torch.float64))


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


def test_sgas_settles_on_operations_even_where_none_is_allowed():
    ops = torch.tensor([[0.7, 0.1, 0.15, 0.05]] * 6)
    kept = GreedyEdge()(view(ops, dag=Dag(nodes=3, inputs=1, keep=3, none=True)))
    assert alive_candidates(kept) == ((2,),) * 6
