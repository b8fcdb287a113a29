"""Successive halving of random architectures (Jamieson & Talwalkar, AISTATS 2016, 1502.07943)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from oche.blackbox.base import Ask, Done, Proposals, Report, Strategy
from oche.blackbox.moves import Moves
from oche.blackbox.random_search import unseen
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class SuccessiveHalving(Strategy):
    """Evaluate ``count`` random architectures at a low fidelity, and the best of each rung at a higher one. Ends by itself.

    The rungs' fidelities are reduction^−r … reduction^−1, 1. Of each rung one in ``reduction`` goes on, at least one. An
    evaluation begins anew at each rung.
    """

    paper: ClassVar[str] = "Jamieson & Talwalkar, 1502.07943"
    year: ClassVar[int] = 2016
    differs: ClassVar[str] = "many short trainings, the best of each rung are trained longer"

    count: int = 27
    """architectures of the first rung"""
    reduction: int = 3
    """one in this many goes on to the next rung"""
    rungs: int = 3
    """rungs, of which the last has full fidelity"""

    def __post_init__(self) -> None:
        if self.count < 1 or self.reduction < 2 or self.rungs < 1:
            raise OcheError(
                f"SuccessiveHalving: count={self.count}, reduction={self.reduction}, rungs={self.rungs}; use count >= 1, "
                "reduction >= 2, rungs >= 1"
            )

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return Rungs(self, moves, random.Random(derive_seed(seed, "halving")))


class Rungs(Proposals):
    """Successive halving at work. ``seen``: keys of architectures that are not drawn; those drawn are added."""

    def __init__(
        self, settings: SuccessiveHalving, moves: Moves, g: random.Random, seen: set[str] | None = None
    ) -> None:
        self.settings, self.moves = settings, moves
        seen = set() if seen is None else seen
        count = settings.count if moves.size is None else min(settings.count, moves.size - len(seen))
        self.cells = [unseen(moves, g, seen) for _ in range(count)]
        self.rung, self.asked = 0, 0
        self.told: list[tuple[float, Genotype]] = []

    @property
    def fidelity(self) -> float:
        return self.settings.reduction ** (self.rung + 1 - self.settings.rungs)

    def ask(self) -> Ask | None:
        if self.asked == len(self.cells):
            if len(self.told) < len(self.cells):
                return None
            self._promote()
        self.asked += 1
        return Ask(self.cells[self.asked - 1], float(self.fidelity))

    def _promote(self) -> None:
        """Begin the next rung with the best of this one. Raises `Done` after the last."""
        if self.rung + 1 == self.settings.rungs:
            raise Done
        order = {self.moves.key(cell): i for i, cell in enumerate(self.cells)}
        ranked = sorted(self.told, key=lambda pair: (-pair[0], order[self.moves.key(pair[1])]))
        self.cells = [cell for _, cell in ranked[: max(1, len(ranked) // self.settings.reduction)]]
        self.rung, self.asked, self.told = self.rung + 1, 0, []

    def tell(self, ask: Ask, report: Report) -> None:
        self.told.append((report.score, ask.genotype))
