"""BANANAS: batches of mutations of the best, ranked by independent draws."""

import numpy as np
import pytest

import oche.blackbox.bananas as module
from made_scores import moves, played, score
from oche.blackbox.bananas import Bananas
from oche.blackbox.base import Done
from oche.core.errors import OcheError

SMALL = moves()


def test_with_a_sure_model_the_batch_is_the_best_of_the_candidates(monkeypatch):
    offered = []

    def perfect(*args):
        def predict(cells):
            offered.append(cells)
            return np.array([[score(c) for c in cells]] * 2)  # two members that agree

        return predict

    monkeypatch.setattr(module, "fit", perfect)
    proposals = Bananas(first=6, batch=3, candidates=20, parents=2).start(SMALL, 0)
    first, batch = played(proposals, 6), played(proposals, 3)
    assert batch == sorted(offered[0], key=score, reverse=True)[:3]
    parents = sorted(first, key=score, reverse=True)[:2]
    reach = {SMALL.key(c) for p in parents for n in SMALL.neighbours(p) for c in [n, *SMALL.neighbours(n)]}
    assert len(offered[0]) == 20 and {SMALL.key(c) for c in offered[0]} <= reach
    assert not {SMALL.key(c) for c in offered[0]} & {SMALL.key(c) for c in first}


def test_draws_are_independent(monkeypatch):
    monkeypatch.setattr(module, "fit", lambda *args: lambda cells: np.array([[-1.0] * len(cells), [1.0] * len(cells)]))
    firsts = {SMALL.key(played(Bananas(first=1, batch=5).start(SMALL, 0), 2)[1]) for _ in range(2)}
    assert (
        len(firsts) == 1
    )  # the same seed draws the same; members that are equal for all would leave the order as it was
    proposals = Bananas(first=1, batch=5).start(SMALL, 0)
    played(proposals, 1)
    order = []
    monkeypatch.setattr(proposals, "_candidates", lambda: order.extend(SMALL.everything()[:30]) or order)
    assert proposals._next_batch() != order[:5]


def test_no_cell_is_asked_twice_and_the_space_ends():
    small = moves(("none", "skip_connect"))
    proposals = Bananas(batch=30).start(small, 0)
    asked = []
    with pytest.raises(Done):
        while True:
            asked += played(proposals, 1, lambda c: float(small.values(c)[0]))
    assert len(asked) == len(set(map(small.key, asked))) == 64


def test_a_batch_waits_for_the_reports_before_it():
    proposals = Bananas(first=2).start(SMALL, 0)
    proposals.ask(), proposals.ask()
    assert proposals.ask() is None


def test_impossible_settings_are_refused():
    with pytest.raises(OcheError, match="batch=0"):
        Bananas(batch=0)
