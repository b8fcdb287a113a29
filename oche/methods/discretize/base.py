"""The interface of decisions: what they see, and how a final decision evaluates the trained supernet.

Shapes: E edges of a cell, O candidate operations; masks (E, O) bool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from oche.core.architecture import Dag, Mix, eligible


@dataclass(frozen=True)
class View:
    """One group of edges, as a decision sees it. ``evaluate``, ``tune`` and ``generator`` are given at the end of a search
    only.
    """

    group: str
    dag: Dag
    candidates: tuple[str, ...]
    alive: Tensor  #: (E, O) bool
    mix: Mix  #: the noise-free mixture
    progress: float  #: of the stage, in [0, 1]
    recent: tuple[
        Tensor, ...
    ] = ()  #: undecided_mix.ops (E, O) at the ends of the last epochs, oldest first, including this epoch
    undecided_mix: Mix | None = None  #: the mixture as if nothing had been decided in this stage; None: as ``mix``
    evaluate: Callable[[Tensor], float] | None = None  #: mask (E, O) of this group -> validation accuracy
    tune: Callable[[Tensor], None] | None = None  #: trains the weights for some steps under a mask (E, O)
    generator: torch.Generator | None = None  #: source of a decision's random numbers

    @property
    def usable(self) -> Tensor:
        """Mask (E, O) of the living candidates that an edge may settle on, see `oche.core.architecture.eligible`."""
        return eligible(self.alive, self.dag, self.candidates)


@dataclass(frozen=True)
class Decide:
    """A pure function from a view to a mask (E, O) that is nowhere wider than ``view.alive``."""

    #: whether it evaluates the trained supernet; such a decision is made once, at the end of a search
    asks_supernet: ClassVar[bool] = False

    def __call__(self, view: View) -> Tensor:
        """Return the mask (E, O) of the candidates that stay alive."""
        raise NotImplementedError

    def conclude(self, supernet: TrainedSupernet) -> None:
        """Settle all groups of a search that has ended. By default the groups are settled one after the other."""
        for group in supernet.groups:
            supernet.narrow(group, self(supernet.view(group)))


class TrainedSupernet(Protocol):
    """The supernet of a search that has ended, as a final decision uses it. `oche.bilevel.search.Search` is one."""

    groups: dict[str, Dag]

    def view(self, group: str) -> View:
        """Return the view of one group, with `View.evaluate`, `View.tune` and `View.generator`."""
        ...

    def narrow(self, group: str, alive: Tensor) -> None:
        """Set the mask (E, O) of a group. Other groups are evaluated with it from now on."""
        ...

    def begin_tuning(self, logits: bool, restart: bool) -> None:
        """Say how `View.tune` trains: ``logits`` as well as weights; ``restart``: with a new optimizer of the weights."""
        ...

    def accuracy(self, alive: dict[str, Tensor], images: int | None = None) -> float:
        """Return the validation accuracy, in [0, 1], under masks (E, O) of all groups.

        ``images``: evaluate on this many images, the same ones every time; None: on all.
        """
        ...

    def random(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return masks (E, O) of an architecture drawn uniformly from the living candidates."""
        ...


def ranking(score: Tensor, among: Tensor) -> Tensor:
    """Return ``score`` (E, O) where ``among`` is True, elsewhere −inf; float64, on the CPU."""
    return score.detach().double().cpu().masked_fill(~among, -torch.inf)


def strongest(score: Tensor, among: Tensor, n: int = 1) -> Tensor:
    """Return the mask (E, O) of the ``n`` largest scores of each row within the mask ``among``. Ties go to the first
    candidate.
    """
    order = ranking(score, among).sort(descending=True, stable=True).indices[:, :n]
    return torch.zeros_like(among).scatter(1, order, True) & among
