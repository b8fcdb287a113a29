"""Models of scores."""

import math

import numpy as np
import pytest

from made_scores import moves, score
from oche.blackbox.surrogates import encoded, fit
from oche.core.errors import OcheError

SMALL = moves()
CELLS = SMALL.everything()
VALUES = np.array([score(c) for c in CELLS])


def ranks(values):
    return values.argsort().argsort()


@pytest.mark.parametrize("model, members", [("forest", 100), ("mlp", 5)])
def test_a_model_ranks_cells_that_it_has_not_seen(model, members):
    seen = CELLS[::4]
    predicted = fit(model, SMALL, seen, [score(c) for c in seen], 0, "one-hot")(CELLS)
    assert predicted.shape == (members, 729)
    others = [i for i in range(729) if i % 4]
    assert np.corrcoef(ranks(predicted.mean(0)[others]), ranks(VALUES[others]))[0, 1] > 0.65


@pytest.mark.parametrize("model", ["forest", "mlp"])
def test_a_fit_follows_from_its_seed(model):
    def fitted(seed):
        return fit(model, SMALL, CELLS[:20], VALUES[:20].tolist(), seed, "one-hot")(CELLS[:50])

    assert (fitted(0) == fitted(0)).all() and not (fitted(0) == fitted(1)).all()


def test_scores_that_are_not_finite_count_as_the_lowest():
    cells = CELLS[:4]
    predicted = fit("forest", SMALL, cells, [0.5, -math.inf, 0.2, math.nan], 0)(cells)
    assert predicted.min() >= 0.2
    assert (fit("forest", SMALL, cells, [-math.inf] * 4, 0)(cells) == 0).all()


def test_the_default_encoding_is_that_of_the_space():
    assert encoded(SMALL, CELLS[:2], None).shape == (2, 3 + 9 + 27) and encoded(SMALL, CELLS[:2], "one-hot").shape == (
        2,
        18,
    )


def test_a_gaussian_process_against_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    x, y = encoded(SMALL, CELLS[::20], "one-hot"), VALUES[::20]
    z = (y - y.mean()) / y.std()
    tried = {
        (length, noise): GaussianProcessRegressor(RBF(length), alpha=noise, optimizer=None).fit(x, z)
        for length in (1.0, 2.0, 4.0, 8.0, 16.0)
        for noise in (0.01, 0.1)
    }
    best = max(tried.values(), key=lambda gp: gp.log_marginal_likelihood())
    mean, sd = best.predict(encoded(SMALL, CELLS[:40], "one-hot"), return_std=True)
    members = fit("gp", SMALL, CELLS[::20], y.tolist(), 0, "one-hot")(CELLS[:40])
    assert members.mean(0) == pytest.approx(y.mean() + y.std() * mean, abs=1e-9)
    assert members.std(0) == pytest.approx(y.std() * sd, abs=1e-7)


def test_a_graph_is_for_the_graph_network_only():
    with pytest.raises(OcheError, match="'graph' is no vector"):
        fit("forest", SMALL, CELLS[:3], [0.1, 0.2, 0.3], 0, "graph")
