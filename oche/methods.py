"""Published methods as compositions. A method is a value: take it apart and put it together with `dataclasses.replace`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from .errors import OcheError
from .hypergrad import FiniteDifference, exact, first_order, joint
from .hypergrad import Neumann as _Neumann
from .method import Method
from .optim import Adam, Sgd
from .training import Recipe


def darts(order: int = 1, **fields) -> Method:
    """DARTS (1806.09055), bilevel: ``order=1`` takes the weights as they are, ``order=2`` looks one step ahead (eq. 7–8)."""
    if order not in (1, 2):
        raise OcheError(f"order={order} is no approximation of DARTS; use order=1 or order=2")
    return replace(Method(hypergrad=first_order if order == 1 else FiniteDifference()), **fields)


def one_level(**fields) -> Method:
    """Weights and architecture on the same batches of the whole training set (seed §1.1; 1806.09055 §4)."""
    return replace(Method(hypergrad=joint), **fields)


def darts_exact(**fields) -> Method:
    """DARTS' one-step look-ahead, differentiated exactly by Hessian-vector products instead of finite differences."""
    return replace(Method(hypergrad=exact), **fields)


def implicit(**fields) -> Method:
    """Implicit gradient at a lower optimum by a Neumann series (1911.02590; iDARTS 2106.10784)."""
    return replace(Method(hypergrad=_Neumann()), **fields)


def seed(order: int = 1, **fields) -> Method:
    """The seed document's recipe (its §4.2): DARTS with 40 epochs, logits from zero, rate to zero, no clipping."""
    recipe = dict(epochs=40, w=Sgd(lr=0.025, lr_min=0.0, clip=0.0), a=Adam(init=0.0))
    return darts(order, **{**recipe, **fields})


def closest(value: Method | Recipe, table: Mapping[str, Method | Recipe]) -> str:
    """The name in ``table`` whose value differs from ``value`` in the fewest fields; the first of equals."""

    def differing(name: str) -> int:
        return sum(getattr(value, f.name) != getattr(table[name], f.name) for f in fields(value))

    return min(table, key=differing)


@dataclass(frozen=True)
class Entry:
    """A method as the command line lists it."""

    make: Callable[..., Method]
    paper: str
    year: int
    differs: str


METHODS: dict[str, Entry] = {
    "darts": Entry(
        darts, "DARTS, 1806.09055", 2018, "bilevel, first order: the weights are taken not to depend on alpha"
    ),
    "darts-2nd": Entry(
        lambda **f: darts(2, **f), "DARTS, 1806.09055", 2018, "bilevel, one look-ahead step by finite differences"
    ),
    "one-level": Entry(one_level, "DARTS §4, 1806.09055", 2018, "weights and alpha together on the whole training set"),
    "exact": Entry(darts_exact, "DARTS eq. 6, 1806.09055", 2018, "the look-ahead step differentiated exactly"),
    "implicit": Entry(implicit, "iDARTS, 2106.10784", 2021, "implicit gradient, inverse Hessian by a Neumann series"),
    "seed": Entry(seed, "seed document §4.2", 2022, "DARTS first order, 40 epochs, alpha from zero, no clipping"),
    "seed-2nd": Entry(lambda **f: seed(2, **f), "seed document §4.2", 2022, "the same with xi = learning rate > 0"),
}
