"""Local search against the steepest ascents of the whole space."""

import random

import pytest

from made_scores import moves, played, score
from oche.blackbox.base import Done, Report
from oche.blackbox.closed_form import steepest_ascents
from oche.blackbox.local_search import LocalSearch
from oche.core.errors import OcheError
from oche.core.seeds import derive_seed

SMALL = moves()
CELLS = SMALL.everything()
VALUE = {SMALL.key(c): score(c) for c in CELLS}


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_is_the_steepest_ascent(seed):
    start = SMALL.random(random.Random(derive_seed(seed, "local")))
    ends = steepest_ascents(SMALL, VALUE).ends
    want = CELLS[ends[CELLS.index(start)]]
    proposals, here = LocalSearch(starts=1).start(SMALL, seed), []
    for _ in range(60):
        played(proposals, 1)
        here.append(proposals.here)
    tops = [c for c in here if c is not None and all(score(n) < score(c) for n in SMALL.neighbours(c))]
    assert tops[0] == want


@pytest.mark.parametrize("improvement", ["full", "first"])
def test_nothing_is_asked_twice_and_the_space_ends(improvement):
    proposals = LocalSearch(improvement=improvement).start(SMALL, 0)
    asked = []
    with pytest.raises(Done):
        while True:
            asked += played(proposals, 1)
    assert len(set(map(SMALL.key, asked))) == len(asked) == 729


def test_the_first_improvement_is_taken_at_once():
    proposals = LocalSearch(starts=1, improvement="first").start(SMALL, 0)
    played(proposals, 1)
    while (better := proposals.ask()) and score(better.genotype) <= score(proposals.here):
        proposals.tell(better, Report(score(better.genotype), 1.0))
    proposals.tell(better, Report(score(better.genotype), 1.0))
    assert proposals.here == better.genotype


def test_it_waits_for_the_whole_neighbourhood():
    proposals = LocalSearch(starts=1).start(SMALL, 0)
    played(proposals, 1)
    asks = [proposals.ask() for _ in range(12)]  # 6 edges x 2 other operations
    assert proposals.ask() is None
    for ask in reversed(asks):
        proposals.tell(ask, Report(score(ask.genotype), 1.0))
    proposals.ask()
    around = max(asks, key=lambda ask: score(ask.genotype)).genotype
    assert proposals.here in (around, None)


def test_no_start_is_refused():
    with pytest.raises(OcheError, match="starts=0"):
        LocalSearch(starts=0)
