"""Searches by each method, small enough for a test."""

import torch

from oche.bilevel.search import Search
from oche.devices.engine import Engine
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import Concrete, Dirichlet, GumbelHard, TwoPaths
from oche.training.loop import Session, fit_loop
from tiny_images import dataset, space

DOUBLE, SINGLE = Engine("cpu", dtype=torch.float64), Engine("cpu")
LIGHT = ("none", "max_pool_3x3", "skip_connect", "nor_conv_3x3")


def small(**fields):
    """Two cells of two nodes whose candidates cost little."""
    return space(**{**dict(cells=2, reductions=(1,), candidates=LIGHT), **fields})


def start(method, where=None, data=None, cls=Search, engine=SINGLE, seed=0):
    return cls(where or small(), method, data or dataset(), seed=seed, engine=engine)


def finished(task):
    session = Session()
    fit_loop(task, task.recipe.length, session)
    return session.history


RELAXATIONS = [
    Softmax(),
    NodeSoftmax(),
    Sigmoid(),
    EdgeNormalised(),
    EdgeNormalised(Sigmoid()),
    EdgeNormalised(GumbelHard()),
    Concrete(),
    Concrete(tau=(1.0, 0.2)),
    GumbelHard(),
    GumbelHard(evaluate="all"),
    Dirichlet(),
    TwoPaths(),
]
