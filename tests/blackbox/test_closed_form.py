"""Closed forms against enumeration, and the figures of the real table."""

from itertools import product

import numpy as np
import pytest

from made_scores import REAL, moves, real, score
from oche.blackbox.closed_form import random_search, steepest_ascents
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS
from oche.strategies.evaluators import TableAccuracy


@pytest.mark.parametrize("queries", [1, 2, 3])
def test_random_search_by_enumeration(queries):
    value, shown = np.array([1.0, 3.0, 3.0, 2.0]), np.array([10.0, 20.0, 40.0, 80.0])
    ends = []
    for drawn in product(range(4), repeat=queries):
        best = max(value[i] for i in drawn)
        tied = shown[value == best]  # which of equal cells comes first is even
        ends += [tied.mean()] if len(tied) == 1 else list(tied)
    weights = [1.0 if list(value).count(max(value[i] for i in d)) == 1 else 0.5 for d in product(range(4), repeat=queries)
               for _ in range(list(value).count(max(value[i] for i in d)))]  # fmt: skip
    mean = np.average(ends, weights=weights)
    found = random_search(value, shown, queries)
    assert found.mean == pytest.approx(mean)
    assert found.sd == pytest.approx(np.sqrt(np.average((np.array(ends) - mean) ** 2, weights=weights)))


def test_no_query_is_refused():
    with pytest.raises(OcheError, match="queries=0"):
        random_search(np.ones(2), np.ones(2), 0)


def test_ascents_by_hand():
    small = moves()
    cells = small.everything()
    value = {small.key(c): score(c) for c in cells}
    found = steepest_ascents(small, value)
    optima = [c for c in cells if all(score(n) <= score(c) for n in small.neighbours(c))]
    assert found.optima == len(optima)
    cell, steps = cells[100], 0
    while (best := max(small.neighbours(cell), key=score)) and score(best) > score(cell):
        cell, steps = best, steps + 1
    assert cells[found.ends[100]] == cell and steps > 0


@real
def test_the_table_has_the_known_figures():
    evaluator = TableAccuracy(REAL)
    scores = evaluator.scores()
    shown = np.array([evaluator.table.accuracy(arch) for arch in scores])
    for queries, mean, sd in ((1, 87.063, 12.935), (10, 92.578, 1.053), (100, 93.730, 0.362), (500, 93.999, 0.226)):
        found = random_search(np.array([*scores.values()]), shown, queries)
        assert (round(found.mean, 3), round(found.sd, 3)) == (mean, sd)
    ascents = steepest_ascents(BenchmarkMoves(OPERATIONS), scores)
    assert (ascents.optima, round(ascents.moves, 2), round(ascents.reach_best, 4)) == (21, 4.48, 0.4907)
