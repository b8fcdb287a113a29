"""Random search: the control of every comparison."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from oche.core.architecture import Genotype
from oche.core.registry import component
from oche.core.seeds import derive_seed
from oche.strategies.base import Ask, Done, Proposals, Report, Strategy
from oche.strategies.moves import Moves


@component
@dataclass(frozen=True)
class RandomSearch(Strategy):
    """Uniform random architectures. The best of N draws is known in closed form on a table, see
    `oche.strategies.closed_form`.
    """

    paper: ClassVar[str] = "Li & Talwalkar, 1902.07638"
    year: ClassVar[int] = 2019
    differs: ClassVar[str] = "uniform draws, each evaluated by itself"

    repeats: bool = True
    """whether an architecture may be drawn again; a repeated one counts as a query"""

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return _Draws(self, moves, random.Random(derive_seed(seed, "random")))


class _Draws(Proposals):
    def __init__(self, settings: RandomSearch, moves: Moves, g: random.Random) -> None:
        self.settings, self.moves, self.g = settings, moves, g
        self.seen: set[str] = set()

    def ask(self) -> Ask:
        if self.settings.repeats:
            return Ask(self.moves.random(self.g))
        return Ask(unseen(self.moves, self.g, self.seen))

    def tell(self, ask: Ask, report: Report) -> None:
        pass


def unseen(moves: Moves, g: random.Random, seen: set[str]) -> Genotype:
    """Draw a genotype whose key is not in ``seen``, and add the key. Raises `Done` if the space is exhausted."""
    if moves.size is not None and len(seen) >= moves.size:
        raise Done
    while (key := moves.key(found := moves.random(g))) in seen:
        pass
    seen.add(key)
    return found
