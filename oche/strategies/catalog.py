"""The strategies by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from oche.blackbox.bananas import Bananas
from oche.blackbox.base import Strategy
from oche.blackbox.controller import Controller
from oche.blackbox.evolution import AgeingEvolution
from oche.blackbox.halving import SuccessiveHalving
from oche.blackbox.hyperband import Asha, Hyperband
from oche.blackbox.local_search import LocalSearch
from oche.blackbox.predictor import PredictorGuided
from oche.blackbox.progressive import Progressive
from oche.blackbox.random_search import RandomSearch
from oche.blackbox.reinforce import Reinforce
from oche.core.errors import OcheError, did_you_mean
from oche.spaces.nasbench201_ground_truth import PublishedAccuracy


@dataclass(frozen=True)
class StrategyEntry:
    """A row of the table: the settings, the paper, and what differs, one line."""

    make: Callable[[], Strategy]
    paper: str
    year: int
    differs: str
    published: PublishedAccuracy | None = None
    """accuracies on NAS-Bench-201, published for the settings of ``make``"""


STRATEGIES: dict[str, StrategyEntry] = {}


def list_strategy(
    name: str,
    make: Callable[[], Strategy],
    differs: str = "",
    published: PublishedAccuracy | None = None,
    paper: str = "",
    year: int = 0,
) -> None:
    """Enter a strategy in `STRATEGIES`. ``make`` returns its settings. ``differs``, ``paper``, ``year``: by default those of
    its class.
    """
    made = type(make())
    STRATEGIES[name] = StrategyEntry(make, paper or made.paper, year or made.year, differs or made.differs, published)


def find_strategy(name: str) -> Strategy:
    """Return the settings of a listed strategy. Raises `OcheError` for an unknown name."""
    if name not in STRATEGIES:
        raise OcheError(f"unknown strategy {name!r}{did_you_mean(name, [*STRATEGIES])}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name].make()


# Published for searches of 12,000 s on CIFAR-10, about a hundred queries; the other data sets have the cell found there.
_BENCHMARK = "2001.00326"

list_strategy(
    "random", RandomSearch, published=PublishedAccuracy(_BENCHMARK, (93.70, 0.36), (71.04, 1.07), (44.57, 1.25))
)
list_strategy(
    "evolution", AgeingEvolution, published=PublishedAccuracy(_BENCHMARK, (93.92, 0.30), (71.84, 0.99), (45.54, 1.03))
)
list_strategy(
    "evolution-worst",
    lambda: AgeingEvolution(drop="worst"),
    "mutations of the best of a sample; the worst member leaves",
)
list_strategy("local", LocalSearch)
list_strategy(
    "local-first",
    lambda: LocalSearch(improvement="first"),
    "moves to the first better neighbour, as in the released code",
)
list_strategy(
    "reinforce", Reinforce, published=PublishedAccuracy(_BENCHMARK, (93.85, 0.37), (71.71, 1.09), (45.24, 1.18))
)
list_strategy("reinforce-lstm", Controller)
list_strategy(
    "nasnet",
    lambda: Controller("ppo", units=100, layers=1, init=0.1, lr=3.5e-4, batch=20, decay=0.95, entropy=1e-5),
    "an LSTM draws the decisions, trained by PPO",
    paper="NASNet, Zoph et al., 1707.07012",
    year=2018,
)
list_strategy("predictor", PredictorGuided)
list_strategy(
    "predictor-gcn",
    lambda: PredictorGuided(model="gcn"),
    "a graph network fitted to random cells picks the last ones",
)
list_strategy("bananas", Bananas)
list_strategy(
    "bo-gp", lambda: Bananas(model="gp", encoding="one-hot"), "a Gaussian process ranks mutations of the best"
)
list_strategy("pnas", Progressive)
list_strategy("halving", SuccessiveHalving)
list_strategy("hyperband", Hyperband)
list_strategy("asha", Asha)
