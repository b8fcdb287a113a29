"""Ageing evolution (Real et al., AAAI 2019, 1802.01548), and its variant that drops the worst."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from oche.blackbox.base import Ask, Proposals, Report, Strategy
from oche.blackbox.moves import Moves, Variation
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class AgeingEvolution(Strategy):
    """Regularised evolution (1802.01548 algorithm 1).

    The population starts with random architectures. In each cycle the best of ``sample`` members, drawn with replacement,
    gets a child by one mutation. The child joins when its score is known, and the oldest member leaves. Age is counted from
    the report, so with parallel workers it is the order of completion.

    Deviation 1: there is no identity mutation, which is one in twenty in the paper.
    """

    paper: ClassVar[str] = "Real et al., 1802.01548"
    year: ClassVar[int] = 2019
    differs: ClassVar[str] = "mutations of the best of a sample; the oldest member leaves"

    population: int = 10
    """members alive at a time; 10 and 3 are the values of the released code for NAS-Bench-201"""
    sample: int = 3
    """members that compete to be the parent"""
    drop: Literal["oldest", "worst"] = "oldest"
    """the member that leaves when a child joins"""

    def __post_init__(self) -> None:
        if self.population < 1 or self.sample < 1:
            raise OcheError(
                f"AgeingEvolution: population={self.population}, sample={self.sample} cannot evolve; use 1 or more"
            )

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return Population(self, moves, random.Random(derive_seed(seed, "evolution")))


class Population(Proposals):
    """Ageing evolution at work, with the architectures of ``moves``, which may be of any kind."""

    def __init__(self, settings: AgeingEvolution, moves: Variation, g: random.Random) -> None:
        self.settings, self.moves, self.g = settings, moves, g
        self.asked = self.told = 0
        self.living: list[tuple[float, Any]] = []  # oldest first

    def ask(self) -> Ask | None:
        if self.asked < self.settings.population:
            self.asked += 1
            return Ask(self.moves.random(self.g))
        if self.told < self.settings.population:
            return None
        self.asked += 1
        rivals = [self.living[self.g.randrange(len(self.living))] for _ in range(self.settings.sample)]
        parent = max(rivals, key=lambda member: member[0])[1]  # the first of equals
        return Ask(self.moves.mutate(parent, self.g))

    def tell(self, ask: Ask, report: Report) -> None:
        self.told += 1
        self.living.append((report.score, ask.genotype))
        if len(self.living) > self.settings.population:
            leaves = 0
            if self.settings.drop == "worst":
                leaves = min(range(len(self.living)), key=lambda i: self.living[i][0])
            del self.living[leaves]
