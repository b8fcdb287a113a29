"""Random search: the control of every comparison."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from oche.blackbox.base import Ask, Done, Proposals, Report, Strategy
from oche.blackbox.moves import Moves, Variation
from oche.core.architecture import Genotype
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class RandomSearch(Strategy):
    """Uniform random architectures. The best of N draws is known in closed form on a table, see
    `oche.blackbox.closed_form`.
    """

    paper: ClassVar[str] = "Li & Talwalkar, 1902.07638"
    year: ClassVar[int] = 2019
    differs: ClassVar[str] = "uniform draws, each evaluated by itself"

    repeats: bool = True
    """whether an architecture may be drawn again; a repeated one counts as a query"""

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        g = random.Random(derive_seed(seed, "random"))
        return Draws(moves, g) if self.repeats else _NewDraws(moves, g)


class Draws(Proposals):
    """Random search with repeats at work, with the architectures of ``moves``, which may be of any kind."""

    def __init__(self, moves: Variation, g: random.Random) -> None:
        self.moves, self.g = moves, g

    def ask(self) -> Ask:
        return Ask(self.moves.random(self.g))

    def tell(self, ask: Ask, report: Report) -> None:
        pass


class _NewDraws(Draws):
    moves: Moves

    def __init__(self, moves: Moves, g: random.Random) -> None:
        super().__init__(moves, g)
        self.seen: set[str] = set()

    def ask(self) -> Ask:
        return Ask(unseen(self.moves, self.g, self.seen))


def unseen(moves: Moves, g: random.Random, seen: set[str]) -> Genotype:
    """Draw a genotype whose key is not in ``seen``, and add the key. Raises `Done` if the space is exhausted."""
    if moves.size is not None and len(seen) >= moves.size:
        raise Done
    while (key := moves.key(found := moves.random(g))) in seen:
        pass
    seen.add(key)
    return found
