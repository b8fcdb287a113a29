"""Decisions that rank the living candidates by their weight in the mixture.

Shapes: E edges of a cell, O candidate operations; masks (E, O) bool. Ties go to the earlier edge, then to the earlier
candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from oche.core.architecture import top_k
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.discretize.base import Decide, View, ranking, strongest

SKIP = "skip_connect"


@component
@dataclass(frozen=True)
class TopK(Decide):
    """DARTS' discretisation (1806.09055 §2.4), see `oche.core.architecture.top_k`."""

    def __call__(self, view: View) -> Tensor:
        return top_k(view.mix.strength(), view.alive, view.dag, view.candidates)


@component
@dataclass(frozen=True)
class EachEdge(Decide):
    """NAS-Bench-201 (2001.00326 §2.1): every edge keeps its strongest candidate, "none" included, whatever `Dag.keep`.

    If a cell cannot hold "none" (`Dag.none`), it is read off without the edges that "none" wins.
    """

    def __call__(self, view: View) -> Tensor:
        return strongest(view.mix.strength(), view.alive)


@component
@dataclass(frozen=True)
class KeepOps(Decide):
    """Keep the ``n`` strongest living candidates of each edge (P-DARTS, 1904.12760: 8 → 5 → 3; DrNAS, 2006.10355: 8 → 4).

    "none" is a candidate like any other, as in both released codes.

    Deviation 1: of equal candidates the earlier stays. P-DARTS' code drops the earlier, DrNAS' leaves the choice to the
    library.

    Raises `OcheError` unless n >= 1.
    """

    n: int = 5
    """candidates left on each edge"""
    none: bool = True
    """whether "none" competes; if not, it is dropped unless an edge may settle on it, as after P-DARTS' last stage"""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise OcheError(f"KeepOps: n={self.n} would leave edges without candidates; use n >= 1")

    def __call__(self, view: View) -> Tensor:
        return strongest(view.mix.strength(), view.alive if self.none else view.usable, self.n)


@component
@dataclass(frozen=True)
class LimitSkips(Decide):
    """P-DARTS (1904.12760): DARTS' discretisation with at most ``most`` skip connections in one group of cells.

    As in the released code: while there are too many, the weakest chosen skip connection is dropped and everything is
    ranked again. So its edge may stay with its next best candidate, or give way to another edge. Other groups are
    discretised as usual.

    Deviation 1: a skip connection stays if its node would keep fewer edges without it, even if there are then too many. The
    released code would choose it again and again.

    Raises `OcheError` unless most >= 0.
    """

    most: int = 2
    """skip connections allowed"""
    group: str = "normal"
    """cells in which they are counted"""

    def __post_init__(self) -> None:
        if self.most < 0:
            raise OcheError(
                f"LimitSkips: most={self.most} cannot be a number of skip connections; use most >= 0, published: 2"
            )

    def __call__(self, view: View) -> Tensor:
        strength, alive = view.mix.strength().detach(), view.alive.clone()

        def discretise(mask: Tensor) -> Tensor:
            return top_k(strength, mask, view.dag, view.candidates)

        kept = discretise(alive)
        if view.group != self.group or SKIP not in view.candidates:
            return kept
        skip = view.candidates.index(SKIP)
        while len(chosen := kept[:, skip].nonzero().flatten().tolist()) > self.most:
            for e in sorted(chosen, key=lambda e: strength[e, skip].item()):
                alive[e, skip] = False
                if (without := discretise(alive)).sum() == kept.sum():
                    kept = without
                    break
                alive[e, skip] = True
            else:
                break
        return kept


@component
@dataclass(frozen=True)
class Threshold(Decide):
    """FairDARTS (1911.12126; "threshold_sparse" in the released code): keep the strong candidates of DARTS' discretisation.

    Of each node's ``Dag.keep`` strongest incoming edges, each with its best candidate, those stay whose weight is at least
    ``at``. A node may keep fewer edges.

    Deviation 1: a node without such an edge keeps its strongest. The released code leaves it without input.

    Raises `OcheError` unless ``at`` is in [0, 1].
    """

    at: float = 0.85
    """least weight of a candidate that is kept; published: 0.85, of a sigmoid"""

    def __post_init__(self) -> None:
        if not 0 <= self.at <= 1:
            raise OcheError(
                f"Threshold: at={self.at} cannot be the weight of a candidate; use 0 <= at <= 1, published: 0.85"
            )

    def __call__(self, view: View) -> Tensor:
        strength = view.mix.strength()
        kept = top_k(strength, view.alive, view.dag, view.candidates)
        best = ranking(strength, kept).amax(1)  # of each kept edge; -inf for the others
        strong = best >= self.at
        for incoming in map(list, view.dag.incoming):
            if not strong[incoming].any():
                strong[incoming[int(best[incoming].argmax())]] = True
        return kept & strong[:, None]
