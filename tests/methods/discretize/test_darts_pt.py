"""DARTS-PT settles edges by measured drops of accuracy."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given

from decision_views import DAG, Court, seeds, view
from oche.core.architecture import Dag, alive_candidates, all_alive
from oche.core.errors import OcheError
from oche.methods.discretize import Perturbation
from oche.methods.discretize.darts_pt import _shuffled


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


def test_perturbation_refuses_bare_logits():
    v = view(torch.rand(14, 4))
    with pytest.raises(OcheError, match=r"no evaluate and no tune and no generator; use .*TopK"):
        Perturbation()(v)
    with pytest.raises(OcheError, match="no tune;"):
        Perturbation()(replace(v, evaluate=lambda mask: 0.0, generator=torch.Generator()))


def test_a_selection_says_how_weights_are_tuned():
    for fields in ((True, True), (True, False), (False, True)):
        court = Court(generator=torch.Generator().manual_seed(0))
        Perturbation(*fields).conclude(court)
        assert court.told.pop("tuning") == fields and {*court.told} == {"normal", "reduce"}
    assert (Perturbation().logits, Perturbation().restart) == (True, True)
