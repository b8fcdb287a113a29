"""Decisions: functions that narrow the mask of living candidates, and at the end discretise the mixture to a cell."""

from oche.methods.discretize.base import Decide, TrainedSupernet, View
from oche.methods.discretize.darts_pt import Perturbation
from oche.methods.discretize.sgas import GreedyEdge
from oche.methods.discretize.successive import Evolution, SampleBest, SampleMixture
from oche.methods.discretize.top_k import EachEdge, KeepOps, LimitSkips, Threshold, TopK

__all__ = [
    "Decide",
    "EachEdge",
    "Evolution",
    "GreedyEdge",
    "KeepOps",
    "LimitSkips",
    "Perturbation",
    "SampleBest",
    "SampleMixture",
    "Threshold",
    "TopK",
    "TrainedSupernet",
    "View",
]
