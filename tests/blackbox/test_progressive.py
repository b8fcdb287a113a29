"""Progressive search: complexity by complexity, and the best of the space with a perfect predictor."""

import numpy as np
import pytest

from made_scores import class_score, moves, played
from oche.blackbox.base import Done
from oche.blackbox.progressive import Levels, Progressive
from oche.core.errors import OcheError
from oche.core.nasbench201 import canonical

SMALL = moves()


def complexity(cell):
    return sum(v != 0 for v in SMALL.values(cell))


def all_asked(proposals):
    asked = []
    with pytest.raises(Done):
        while True:
            asked += played(proposals, 1, class_score)
    return asked


def test_with_room_for_all_it_finds_the_maximum():
    asked = all_asked(Progressive(keep=1000).start(SMALL, 0))
    best = max(class_score(c) for c in SMALL.everything())
    assert max(map(class_score, asked)) == best
    for k in range(1, 7):
        level = [canonical(c) for c in asked if complexity(c) == k]
        assert level and len(set(level)) == len(level)


def test_a_perfect_predictor_keeps_the_best_of_each_complexity(monkeypatch):
    monkeypatch.setattr(Levels, "surrogate", lambda self: lambda cells: np.array([[class_score(c) for c in cells]]))
    asked = all_asked(Progressive(keep=5).start(SMALL, 0))
    second = [c for c in asked if complexity(c) == 2]
    offered = {canonical(c): c for parent in SMALL.smallest() for c in SMALL.grow(parent)}
    want = sorted(map(class_score, offered.values()), reverse=True)[:5]
    assert [class_score(c) for c in second] == want and [complexity(c) for c in asked] == sorted(map(complexity, asked))


def test_it_waits_for_a_whole_level():
    proposals = Progressive().start(SMALL, 0)
    for _ in {canonical(c) for c in SMALL.smallest()}:
        assert proposals.ask() is not None
    assert proposals.ask() is None


def test_keeping_nothing_is_refused():
    with pytest.raises(OcheError, match="keep=0"):
        Progressive(keep=0)
