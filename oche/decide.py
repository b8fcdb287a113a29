"""Decisions narrow the mask of what is alive; discretisation settles everything.

Shapes: E edges, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .arch import NONE, Dag, Mix, top_k
from .registry import component


@dataclass(frozen=True)
class View:
    """What a decision may look at, and have done, for one group of edges."""

    group: str
    dag: Dag
    candidates: tuple[str, ...]
    alive: Tensor  # (E, O) bool
    mix: Mix  # of the noise-free relaxation
    progress: float
    recent: tuple[Tensor, ...] = ()  # mix.ops (E, O) at the ends of the last epochs, oldest first, this one's last
    epochs: int = 0  # done so far
    evaluate: Callable[[Tensor], float] | None = None  # (E, O) mask -> validation accuracy with it in place of ours
    tune: Callable[[Tensor], None] | None = None  # trains the weights for a while under a mask (E, O)
    generator: torch.Generator | None = None  # for what a decision draws


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


def none_alive(view: View) -> Tensor:
    """(E, O) bool: the living "none" candidates."""
    is_none = torch.tensor([name == NONE for name in view.candidates])
    return view.alive & is_none


def best_on_each(score: Tensor, alive: Tensor) -> Tensor:
    """(E, O) mask with the best living candidate of each edge that has one; of equals, the first."""
    score = score.detach().double().cpu().masked_fill(~alive, -torch.inf)
    kept = torch.zeros_like(alive)
    kept[torch.arange(len(alive)), score.argmax(1)] = True
    return kept & alive  # an edge without a living candidate has none to keep


@component
@dataclass(frozen=True)
class EachEdge(Decide):
    """NAS-Bench-201 (2001.00326 §2.1): every edge keeps its strongest candidate, "none" included; `Dag.keep` plays no part."""

    def __call__(self, view: View) -> Tensor:
        return best_on_each(view.mix.strength(), view.alive)
