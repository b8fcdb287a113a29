"""Strategies on the shared weights of a supernet: a selection at the end of a search by any method.

`ByStrategy` stands beside `SampleBest` and `Evolution` of `oche.methods.discretize`. It runs the strategies of this folder,
so random search and evolution are the same classes on a table, in trainings and on shared weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from oche.blackbox.base import Evaluator, Report, Strategy
from oche.blackbox.evolution import AgeingEvolution
from oche.blackbox.space_moves import moves_of_groups
from oche.core.architecture import Dag
from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.discretize.base import TrainedSupernet, View
from oche.methods.discretize.successive import Masks, Sampling
from oche.methods.recipe import SearchRecipe
from oche.methods.weight_sharing import random_ws
from oche.strategies.evaluators import masks_of
from oche.strategies.loop import drive


@component
@dataclass(frozen=True)
class ByStrategy(Sampling):
    """The best of ``queries`` architectures that ``strategy`` asks for, by their accuracy in the trained supernet."""

    strategy: Strategy = field(default_factory=AgeingEvolution)
    """a strategy, by the name of its class"""
    queries: int = 1000
    """architectures that the strategy may ask for"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1:
            raise OcheError(f"ByStrategy: queries={self.queries} leaves nothing to choose from; use queries >= 1")

    def explore(
        self,
        supernet: TrainedSupernet,
        views: dict[str, View],
        score: Callable[[Masks], float],
        generator: torch.Generator,
    ) -> None:
        view = next(iter(views.values()))
        if any(not bool(v.alive.all()) for v in views.values()):
            raise OcheError("a strategy chooses among all candidates; use a method that decides nothing before the end")
        groups = {name: v.dag for name, v in views.items()}
        seed = int(torch.randint(1 << 62, (), generator=generator))
        evaluator = _Scored(groups, view.candidates, score)
        drive(self.strategy, moves_of_groups(groups, view.candidates), evaluator, seed=seed, queries=self.queries)


@checked
def on_shared_weights(strategy: Strategy, queries: int = 1000, **fields) -> SearchRecipe:
    """Return the recipe of `random_ws` (1902.07638), whose cells ``strategy`` chooses by their accuracy in the supernet.

    ``fields`` replace those of the recipe::

        oche.search("digits", method=oche.strategies.on_shared_weights(oche.strategies.LocalSearch(), epochs=10))
    """
    return random_ws(**{"select": ByStrategy(strategy=strategy, queries=queries), **fields})


class _Scored(Evaluator):
    """Evaluates masks by a function that remembers them."""

    unit = "queries"

    def __init__(self, groups: dict[str, Dag], candidates: tuple[str, ...], score: Callable[[Masks], float]) -> None:
        self.groups, self.candidates, self.score = groups, candidates, score

    def __call__(self, genotype, fidelity: float, seed: int) -> Report:
        return Report(self.score(masks_of(genotype, self.groups, self.candidates)), 1.0, fidelity)
