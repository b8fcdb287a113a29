"""Decisions narrow the mask of what is alive; discretisation settles everything."""

from .base import Court, Decide, View
from .greedy import GreedyEdge
from .perturbation import Perturbation
from .ranks import EachEdge, KeepOps, LimitSkips, Threshold, TopK

__all__ = [
    "Court",
    "Decide",
    "EachEdge",
    "GreedyEdge",
    "KeepOps",
    "LimitSkips",
    "Perturbation",
    "Threshold",
    "TopK",
    "View",
]
