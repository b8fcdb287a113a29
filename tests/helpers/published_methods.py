"""Every published method on every kind of space, small enough for a test."""

from dataclasses import replace
from functools import cache

import oche
from oche.devices.engine import Engine
from oche.methods.catalog import METHODS
from oche.methods.discretize import Evolution, SampleBest, SampleMixture
from oche.methods.method import Method
from oche.spaces import PartialEdge
from oche.training.loop import fit_loop
from tiny_images import dataset

SIZE = dict(classes=3, in_channels=1, image=(8, 8))
CONV = dict(
    channels=4, cells=2, nodes=2, reductions=(1,), candidates=("none", "max_pool_3x3", "skip_connect", "nor_conv_3x3")
)
SPACES = {
    "darts": oche.spaces.darts(**CONV, **SIZE),
    "seed": oche.spaces.seed(**CONV, **SIZE, head=(6,)),
    "nb201": oche.spaces.nb201(
        channels=4, cells=1, candidates=("none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3"), **SIZE
    ),
}
STEPS = 6  # three epochs of two steps: stages end and edges are settled on the way


def shrunk(method: Method) -> Method:
    """``method`` with stages of two to four cells, few enough partial channels for 4, the eigenvalue once, few cells tried."""

    def half(edge):
        return PartialEdge(2) if isinstance(edge, PartialEdge) else edge

    stages = tuple(
        replace(s, depth=1 + i / 2, width=1.0, edge=half(s.edge)) for i, s in enumerate(method.method.stages)
    )
    few = {SampleBest: SampleBest(4, 2, 5), Evolution: Evolution(4, 2, 3, 2, 5), SampleMixture: SampleMixture(4, 2, 5)}
    select = few.get(type(method.method.select), method.method.select)
    return replace(
        method,
        stages=stages,
        edge=half(method.method.edge),
        hessian_every=2 * method.method.hessian_every,
        select=select,
    )


def tiny(name: str) -> Method:
    return shrunk(METHODS[name].make(steps=STEPS, batch=6))


@cache
def data():
    return dataset(24)


def search(method: Method, space, seed: int = 0):
    from oche.bilevel.search import Search

    return Search(space, method, data(), seed=seed, engine=Engine("cpu"))


def run(task, session):
    fit_loop(task, task.recipe.length, session)
    return task.conclude()
