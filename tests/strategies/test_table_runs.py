"""Strategies on the real table against reference distributions, which another program computed with 500 seeds.

A strategy agrees within 3 standard errors of both means.
"""

import math

import pytest

from made_scores import REAL, real
from oche.blackbox.bananas import Bananas
from oche.blackbox.evolution import AgeingEvolution
from oche.blackbox.halving import SuccessiveHalving
from oche.blackbox.local_search import LocalSearch
from oche.blackbox.predictor import PredictorGuided
from oche.blackbox.reinforce import Reinforce
from oche.core.errors import OcheError
from oche.core.nasbench201 import Table
from oche.strategies import find_strategy
from oche.strategies.table_runs import TableRuns

pytestmark = real


@pytest.fixture(scope="module")
def runs():
    return TableRuns(Table(REAL))


REFERENCE = {  # settings, seeds, {queries: (mean, sd)}, seeds of the reference
    "evolution": (AgeingEvolution(), 150, {50: (93.57, 0.65), 100: (93.92, 0.45), 200: (94.13, 0.25)}, 500),
    "evolution, sample 10": (
        AgeingEvolution(10, 10),
        150,
        {50: (93.80, 0.57), 100: (94.07, 0.31), 200: (94.17, 0.27)},
        500,
    ),
    "local": (LocalSearch(), 150, {50: (93.79, 0.52), 100: (94.09, 0.34), 200: (94.24, 0.23)}, 500),
    "local, one start": (LocalSearch(1), 150, {50: (93.40, 0.79), 100: (93.96, 0.46), 200: (94.19, 0.26)}, 500),
    "reinforce": (
        Reinforce(0.1, correct_bias=False),
        80,
        {50: (93.35, 0.67), 100: (93.71, 0.53), 200: (93.96, 0.37)},
        500,
    ),
    "predictor": (PredictorGuided(top=10), 10, {100: (94.00, 0.30)}, 100),
    "bananas": (Bananas(), 6, {50: (93.78, 0.47)}, 100),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_distributions(name, runs):
    strategy, seeds, rows, count = REFERENCE[name]
    curve = runs.curve(strategy, range(seeds), [*rows])
    for queries, (mean, sd) in rows.items():
        error = math.sqrt(sd**2 / seeds + sd**2 / count)
        assert abs(curve.moments(queries).mean - mean) < 3 * error + 0.005, queries  # rounded to 0.01


def test_random_search_agrees_with_its_closed_form(runs):
    curve = runs.curve(find_strategy("random"), range(150), (10, 100))
    for queries in (10, 100):
        want = runs.random(queries)
        assert abs(curve.moments(queries).mean - want.mean) < 3 * want.sd / math.sqrt(150)
        assert 0.7 < curve.moments(queries).sd / want.sd < 1.4


def test_a_run_reports_the_incumbent_by_validation(runs):
    (row, hit), scores = runs.run(LocalSearch(), 3, (1, 400)), runs.scores
    best = max(scores, key=lambda arch: scores[arch])
    assert hit == (row[1] == runs.true[best]) and len(row) == 2
    early, _ = runs.run(PredictorGuided(queries=20), 0, (10, 20, 50))
    assert early[1] == early[2]  # it ended at 20


def test_what_measures_nothing_is_refused(runs):
    with pytest.raises(OcheError, match="measure nothing"):
        runs.curve(LocalSearch(), [], [10])
    with pytest.raises(OcheError, match="one fidelity"):
        runs.run(SuccessiveHalving(), 0, [5])
