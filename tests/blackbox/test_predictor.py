"""Search by a predictor: with a perfect one it asks for the best of the others."""

import numpy as np
import pytest

import oche.blackbox.predictor as module
from made_scores import moves, played, score
from oche.blackbox.base import Done
from oche.blackbox.predictor import PredictorGuided
from oche.core.errors import OcheError

SMALL = moves()


def perfect(*args):
    return lambda cells: np.array([[score(c) for c in cells]])


def test_a_perfect_predictor_picks_the_best_of_the_others(monkeypatch):
    monkeypatch.setattr(module, "fit", perfect)
    proposals = PredictorGuided(top=4).start(SMALL, 0, queries=20)
    asked = played(proposals, 20)
    first = asked[:16]
    assert len(set(map(SMALL.key, first))) == 16
    others = sorted((c for c in SMALL.everything() if c not in first), key=score, reverse=True)
    assert asked[16:] == others[:4]
    with pytest.raises(Done):
        proposals.ask()


def test_a_tenth_is_predicted_unless_told():
    proposals = PredictorGuided().start(SMALL, 0, queries=50)
    assert (proposals.first, proposals.top) == (45, 5)
    assert PredictorGuided(queries=30).start(SMALL, 0).top == 3


def test_it_must_know_the_number_of_queries():
    with pytest.raises(OcheError, match="must know"):
        PredictorGuided().start(SMALL, 0)
    with pytest.raises(OcheError, match="top=0"):
        PredictorGuided(top=0)
    with pytest.raises(OcheError, match="queries=1 leaves nothing"):
        PredictorGuided(queries=1).start(SMALL, 0)


def test_of_a_large_space_a_sample_is_predicted(monkeypatch):
    monkeypatch.setattr(module, "fit", perfect)
    proposals = PredictorGuided(sample=50, top=2).start(SMALL, 0, queries=10)
    assert len({SMALL.key(c) for c in proposals._all()}) <= 50
    assert len(played(proposals, 10)) == 10


def test_a_classifier_comes_before_the_model(monkeypatch):
    fitted = []

    def record(model, moves, cells, scores, seed, encoding):
        fitted.append(scores)
        if {*scores} <= {0.0, 1.0}:  # the classifier refuses cells with "none" on the last edge
            return lambda others: np.array([[float(c.cells["cell"].edges[-1][0] != "none") for c in others]])
        return lambda others: np.array([[-score(c) for c in others]])  # the model prefers low scores

    monkeypatch.setattr(module, "fit", record)
    threshold = 0.18
    asked = played(PredictorGuided(top=4, threshold=threshold).start(SMALL, 0, queries=20), 20)
    scores = [score(c) for c in asked[:16]]
    assert fitted[0] == [float(s >= threshold) for s in scores] and 0 < sum(fitted[0]) < 16
    assert fitted[1] == [s for s in scores if s >= threshold]
    accepted = [c for c in SMALL.everything() if c not in asked[:16] and c.cells["cell"].edges[-1][0] != "none"]
    assert asked[16:] == sorted(accepted, key=score)[:4]
    fitted.clear()
    played(PredictorGuided(top=4, threshold=-1.0).start(SMALL, 0, queries=20), 20)
    assert len(fitted) == 1  # all reach it: one stage
