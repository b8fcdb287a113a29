"""Local search over the neighbours of a cell (White et al. 2020, 2005.02960)."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Literal

from oche.blackbox.base import Ask, Done, Proposals, Report, Strategy
from oche.blackbox.moves import Moves
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class LocalSearch(Strategy):
    """Hill climbing from the best of ``starts`` random architectures, with restarts at a random one.

    ``improvement="full"`` asks for all neighbours in random order and moves to the best one if it is strictly better.
    ``"first"`` moves to the first neighbour that is strictly better. Nothing is asked twice. A restart at a known
    architecture goes on from what is known.
    """

    paper: ClassVar[str] = "White et al., 2005.02960"
    year: ClassVar[int] = 2020
    differs: ClassVar[str] = "moves to the best neighbour, restarts at a local optimum"

    starts: int = 10
    """random architectures of which the first climb begins at the best"""
    improvement: Literal["full", "first"] = "full"
    """whether all neighbours are evaluated before a move; the released code moves to the first improvement by default"""

    def __post_init__(self) -> None:
        if self.starts < 1:
            raise OcheError(f"LocalSearch: starts={self.starts} begins nowhere; use starts >= 1")

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return _Climb(self, moves, random.Random(derive_seed(seed, "local")))


class _Climb(Proposals):
    def __init__(self, settings: LocalSearch, moves: Moves, g: random.Random) -> None:
        self.settings, self.moves, self.g = settings, moves, g
        self.scores: dict[str, float] = {}
        self.pending: set[str] = set()
        self.queue: deque[Genotype] = deque()
        self.group: list[Genotype] = []  # among which the next point is chosen
        self.here: Genotype | None = None
        self._begin([moves.random(g) for _ in range(settings.starts)])

    def _begin(self, cells: list[Genotype]) -> None:
        """Compare ``cells``: ask for those that are not known."""
        self.group, self.queue = cells, deque(cells)

    def ask(self) -> Ask | None:
        while True:
            if self.moves.size is not None and len(self.scores) + len(self.pending) >= self.moves.size:
                raise Done
            while self.queue:
                cell = self.queue.popleft()
                key = self.moves.key(cell)
                if key not in self.scores and key not in self.pending:
                    self.pending.add(key)
                    return Ask(cell)
            if any(self.moves.key(cell) not in self.scores for cell in self.group):
                return None
            self._move()

    def _move(self) -> None:
        """Go to the best of the group, or restart if no neighbour is better. All scores of the group are known."""
        best = max(self.group, key=self._score)  # the first of equals
        if self.here is None or self._score(best) > self._score(self.here):
            self._climb_from(best)
        else:
            self.here = None
            self._begin([self.moves.random(self.g)])

    def _climb_from(self, cell: Genotype) -> None:
        self.here = cell
        around = self.moves.neighbours(cell)
        self.g.shuffle(around)
        if self.settings.improvement == "first" and (
            better := next((c for c in around if self._score(c) > self._score(cell)), None)
        ):
            return self._climb_from(better)  # known from before
        return self._begin(around)

    def _score(self, cell: Genotype) -> float:
        return self.scores.get(self.moves.key(cell), -math.inf)

    def tell(self, ask: Ask, report: Report) -> None:
        key = self.moves.key(ask.genotype)
        self.pending.discard(key)
        self.scores[key] = report.score
        first = self.settings.improvement == "first" and self.here is not None
        if first and self._score(ask.genotype) > self._score(self.here) and ask.genotype in self.group:  # pyright: ignore[reportArgumentType]
            self._climb_from(ask.genotype)
