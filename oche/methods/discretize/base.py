"""What decisions look at, and what they are made of.

Shapes: E edges, O candidates.
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
    """What a decision may look at, and have done, for one group of edges."""

    group: str
    dag: Dag
    candidates: tuple[str, ...]
    alive: Tensor  #: (E, O) bool
    mix: Mix  #: of the noise-free relaxation
    progress: float
    recent: tuple[Tensor, ...] = ()  #: mix.ops (E, O) at the ends of the last epochs, oldest first, this one's last
    evaluate: Callable[[Tensor], float] | None = None  #: (E, O) mask -> validation accuracy with it in place of ours
    tune: Callable[[Tensor], None] | None = None  #: trains the weights for a while under a mask (E, O)
    generator: torch.Generator | None = None  #: for what a decision draws

    @property
    def usable(self) -> Tensor:
        """(E, O) bool: the living candidates that an edge may settle on, see `oche.core.architecture.eligible`."""
        return eligible(self.alive, self.dag, self.candidates)


@dataclass(frozen=True)
class Decide:
    """A pure function from a view to a mask (E, O) that is nowhere wider than ``view.alive``.

    ``asks``: it questions the trained supernet, so it is made once, at the end.
    """

    asks: ClassVar[bool] = False

    def __call__(self, view: View) -> Tensor:
        raise NotImplementedError

    def conclude(self, court: Court) -> None:
        """Settles all groups of a search that has ended; by default one after the other."""
        for group in court.groups:
            court.narrow(group, self(court.view(group)))


class Court(Protocol):
    """A search that has ended, as a final decision finds it."""

    groups: dict[str, Dag]

    def view(self, group: str) -> View:
        """What there is to see of one group, with `View.evaluate`, `View.tune` and `View.generator`."""
        ...

    def narrow(self, group: str, alive: Tensor) -> None:
        """Settles a group; the others see it so from now on."""
        ...

    def accuracy(self, alive: dict[str, Tensor], images: int | None = None) -> float:
        """Validation accuracy of the supernet under masks (E, O) of all groups, on so many images, always the same ones."""
        ...

    def random(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Masks (E, O) of an architecture drawn uniformly from what is alive."""
        ...


def ranking(score: Tensor, among: Tensor) -> Tensor:
    """(E, O) float64 on the CPU: ``score`` where ``among``, elsewhere less than anything."""
    return score.detach().double().cpu().masked_fill(~among, -torch.inf)


def strongest(score: Tensor, among: Tensor, n: int = 1) -> Tensor:
    """(E, O) mask of the ``n`` largest scores of each row that are in the mask ``among``; of equals, the first."""
    order = ranking(score, among).sort(descending=True, stable=True).indices[:, :n]
    return torch.zeros_like(among).scatter(1, order, True) & among
