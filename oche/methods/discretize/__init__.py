"""Decisions narrow the mask of what is alive; discretisation settles everything."""

from oche.methods.discretize.base import Court, Decide, View
from oche.methods.discretize.darts_pt import Perturbation
from oche.methods.discretize.sgas import GreedyEdge
from oche.methods.discretize.successive import Evolution, SampleBest
from oche.methods.discretize.top_k import EachEdge, KeepOps, LimitSkips, Threshold, TopK

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
