"""Hyperband (Li et al., JMLR 2018, 1603.06560), and asynchronous successive halving (ASHA, Li et al., 1810.05934)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from oche.blackbox.base import Ask, Done, Proposals, Report, Strategy
from oche.blackbox.halving import Rungs, SuccessiveHalving
from oche.blackbox.moves import Moves
from oche.blackbox.random_search import unseen
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class Hyperband(Strategy):
    """Successive halving with several first rungs, from many architectures at a low fidelity to few at full fidelity.

    Bracket s = ``rungs`` − 1, …, 0 starts ⌈rungs / (s + 1) · reduction^s⌉ architectures at fidelity reduction^−s (1603.06560
    algorithm 1). Ends by itself.
    """

    paper: ClassVar[str] = "Hyperband, Li et al., 1603.06560"
    year: ClassVar[int] = 2018
    differs: ClassVar[str] = "successive halving that begins at several lengths of training"

    reduction: int = 3
    """one in this many goes on to the next rung"""
    rungs: int = 3
    """rungs of the first bracket, and number of brackets"""

    def __post_init__(self) -> None:
        _check_rungs(self)

    def brackets(self) -> list[SuccessiveHalving]:
        """Return the brackets, in order."""
        counts = [(s, -(-self.rungs * self.reduction**s // (s + 1))) for s in reversed(range(self.rungs))]
        return [SuccessiveHalving(count, self.reduction, s + 1) for s, count in counts]

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return _Brackets(self, moves, random.Random(derive_seed(seed, "hyperband")))


def _check_rungs(strategy: Hyperband | Asha) -> None:
    """Raise `OcheError` if a rung would not be smaller than the one before, or there is none."""
    if strategy.reduction < 2 or strategy.rungs < 1:
        raise OcheError(
            f"{type(strategy).__name__}: reduction={strategy.reduction}, rungs={strategy.rungs}; use reduction >= 2, rungs >= 1"
        )


class _Brackets(Proposals):
    def __init__(self, settings: Hyperband, moves: Moves, g: random.Random) -> None:
        self.moves, self.g, self.seen = moves, g, set[str]()
        self.left: Iterator[SuccessiveHalving] = iter(settings.brackets())
        self.now = self._next()

    def _next(self) -> Rungs:
        """Return the next bracket, with new architectures. Raises `Done` if there is none or the space is exhausted."""
        settings = next(self.left, None)
        if settings is None or (self.moves.size is not None and len(self.seen) >= self.moves.size):
            raise Done
        return Rungs(settings, self.moves, self.g, self.seen)

    def ask(self) -> Ask | None:
        try:
            return self.now.ask()
        except Done:
            self.now = self._next()
            return self.now.ask()

    def tell(self, ask: Ask, report: Report) -> None:
        self.now.tell(ask, report)


@component
@dataclass(frozen=True)
class Asha(Strategy):
    """Successive halving that never waits: a free worker promotes an architecture, or starts a new one.

    One that is among the best ⌊n / reduction⌋ of the n reported in its rung, and was not promoted, goes on to the next rung, the
    highest rung first (1810.05934 algorithm 2). Otherwise a new random architecture starts at fidelity reduction^(1 − rungs). An
    evaluation begins anew at each rung. Failed evaluations rank last.
    """

    paper: ClassVar[str] = "ASHA, Li et al., 1810.05934"
    year: ClassVar[int] = 2018
    differs: ClassVar[str] = "successive halving for parallel workers, without waiting"

    reduction: int = 3
    """one in this many goes on to the next rung"""
    rungs: int = 3
    """rungs, of which the last has full fidelity"""

    def __post_init__(self) -> None:
        _check_rungs(self)

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return _Ladder(self, moves, random.Random(derive_seed(seed, "asha")))


@dataclass
class _Rung:
    fidelity: float
    told: list[tuple[float, Genotype]] = field(default_factory=list)
    promoted: set[str] = field(default_factory=set)


class _Ladder(Proposals):
    def __init__(self, settings: Asha, moves: Moves, g: random.Random) -> None:
        self.settings, self.moves, self.g, self.seen = settings, moves, g, set[str]()
        self.rungs = [_Rung(float(settings.reduction ** (r + 1 - settings.rungs))) for r in range(settings.rungs)]

    def ask(self) -> Ask:
        for r in reversed(range(len(self.rungs) - 1)):
            rung = self.rungs[r]
            best = sorted(rung.told, key=lambda pair: -pair[0])[: len(rung.told) // self.settings.reduction]
            for _, cell in best:
                if (key := self.moves.key(cell)) not in rung.promoted:
                    rung.promoted.add(key)
                    return Ask(cell, self.rungs[r + 1].fidelity)
        return Ask(unseen(self.moves, self.g, self.seen), self.rungs[0].fidelity)

    def tell(self, ask: Ask, report: Report) -> None:
        next(r for r in self.rungs if r.fidelity == ask.fidelity).told.append((report.score, ask.genotype))
