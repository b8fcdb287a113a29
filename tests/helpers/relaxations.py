"""Every relaxation."""

from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import Concrete, Dirichlet, GumbelHard

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
]
