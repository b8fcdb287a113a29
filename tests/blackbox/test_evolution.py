"""Ageing evolution: who is the parent, and who leaves."""

import pytest

from made_scores import moves, played, score
from oche.blackbox.base import Report
from oche.blackbox.evolution import AgeingEvolution
from oche.core.errors import OcheError

SMALL = moves()


def test_the_child_of_the_best_of_all_is_its_neighbour():
    proposals = AgeingEvolution(population=4, sample=200).start(SMALL, 0)  # every member competes, nearly surely
    first = played(proposals, 4)
    best = max(first, key=score)
    ask = proposals.ask()
    assert SMALL.key(ask.genotype) in {SMALL.key(c) for c in SMALL.neighbours(best)}


@pytest.mark.parametrize("drop, left", [("oldest", [0.5, 0.9, 0.3]), ("worst", [0.6, 0.5, 0.9])])
def test_who_leaves(drop, left):
    proposals = AgeingEvolution(population=3, drop=drop).start(SMALL, 0)
    for value in (0.6, 0.5, 0.9):
        proposals.tell(proposals.ask(), Report(value, 1.0))
    proposals.tell(proposals.ask(), Report(0.3, 1.0))
    assert [value for value, _ in proposals.living] == left


def test_it_waits_for_its_first_population():
    proposals = AgeingEvolution(population=2).start(SMALL, 0)
    first, second = proposals.ask(), proposals.ask()
    assert proposals.ask() is None
    proposals.tell(second, Report(0.1, 1.0))
    assert proposals.ask() is None
    proposals.tell(first, Report(0.2, 1.0))
    assert [value for value, _ in proposals.living] == [0.1, 0.2]  # age is the order of reports
    assert proposals.ask() is not None


def test_a_population_of_none_is_refused():
    with pytest.raises(OcheError, match="population=0"):
        AgeingEvolution(population=0)
