"""Decisions narrow the mask of what is alive; discretisation settles everything."""

from .base import Decide, View
from .greedy import GreedyEdge
from .perturbation import Perturbation
from .ranks import EachEdge, KeepOps, LimitSkips, Threshold, TopK

__all__ = ["Decide", "EachEdge", "GreedyEdge", "KeepOps", "LimitSkips", "Perturbation", "Threshold", "TopK", "View"]
