"""Decisions narrow the mask of what is alive; discretisation settles everything."""

from .base import Court, Decide, View
from .greedy import GreedyEdge
from .perturbation import Perturbation
from .ranks import EachEdge, KeepOps, LimitSkips, Threshold, TopK
from .sampling import Evolution, SampleBest

__all__ = [
    "Court",
    "Decide",
    "EachEdge",
    "Evolution",
    "GreedyEdge",
    "KeepOps",
    "LimitSkips",
    "Perturbation",
    "SampleBest",
    "Threshold",
    "TopK",
    "View",
]
