"""Every published method on every kind of space, small enough for a test."""

from dataclasses import replace
from functools import cache

import oche
from oche.devices.engine import Engine
from oche.methods.catalog import METHODS
from oche.methods.cost_constraints import flops, latency
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
    "chain": oche.spaces.chain(
        first=("conv_k3_c4",), widths=(4, 6), layers=(1, 2), strides=(1, 2), last="conv_k1_c8",
        candidates=("none", "mb_k3_e1", "mb_k3_e2", "mb_k5_e2"), **SIZE,
    ),
}  # fmt: skip
# Methods that cannot search a space, and why.
REFUSED = {
    ("darts-minus", "chain"): "an auxiliary skip takes over from the candidate 'skip_connect'",
    ("drnas-progressive", "chain"): "channels that bypass an operation keep their number",
    ("gaea-pc-darts", "chain"): "channels that bypass an operation keep their number",
    ("p-darts", "chain"): "skip dropout needs the candidate 'skip_connect'",
    ("pc-darts", "chain"): "channels that bypass an operation keep their number",
}
STEPS = 6  # three epochs of two steps: stages end and edges are settled on the way


def shrunk(method: Method) -> Method:
    """``method`` with stages of two to four cells, few enough partial channels for 4, the eigenvalue once, few cells tried."""

    def half(edge):
        return PartialEdge(2) if isinstance(edge, PartialEdge) else edge

    stages = tuple(
        replace(s, depth=1 + i / 2, width=1.0, edge=half(s.edge)) for i, s in enumerate(method.method.stages)
    )
    if method.method.penalty is latency:  # counted, because measuring takes long
        method = replace(method, penalty=flops, cost_recipe="supernet")
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
