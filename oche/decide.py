"""Decisions narrow the mask of what is alive; discretisation settles everything.

Shapes: E edges, O candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .arch import Dag, Mix, top_k
from .registry import component


@dataclass(frozen=True)
class View:
    """What a decision may look at, for one group of edges."""

    group: str
    dag: Dag
    candidates: tuple[str, ...]
    alive: Tensor  # (E, O) bool
    mix: Mix  # of the noise-free relaxation
    progress: float


@dataclass(frozen=True)
class Decide:
    """A pure function from a view to a mask (E, O) that is nowhere wider than ``view.alive``."""

    def __call__(self, view: View) -> Tensor:
        raise NotImplementedError


@component
@dataclass(frozen=True)
class TopK(Decide):
    """DARTS' discretisation, see `oche.arch.top_k`."""

    def __call__(self, view: View) -> Tensor:
        return top_k(view.mix.strength(), view.alive, view.dag, view.candidates)
