"""Progressive search (PNAS, Liu et al., ECCV 2018, 1712.00559): from small cells to large ones, with a predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oche.blackbox.base import Ask, Done, Proposals, Report, Strategy
from oche.blackbox.moves import Encoding, Moves
from oche.blackbox.surrogates import Model, Surrogate, fit
from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class Progressive(Strategy):
    """Evaluate all cells of complexity 1, then for each further complexity the ``keep`` best predicted expansions.

    Complexity is the number of edges that are not "none" (NAS-Bench-201), or the number of nodes (DARTS space, with one
    cell for both strides). Of isomorphic cells of NAS-Bench-201 one is evaluated, and all grow, because their dead edges
    differ. The model is fitted anew after every
    complexity, to all cells so far. Ends by itself.

    Deviation 1: the default model is a forest. The paper has an ensemble of five recurrent or feed-forward networks.
    """

    paper: ClassVar[str] = "Liu et al., 1712.00559"
    year: ClassVar[int] = 2018
    differs: ClassVar[str] = "cells grow part by part; a predictor keeps the best"

    keep: int = 256
    """K, cells that are evaluated at each complexity; the published value"""
    model: Model = "forest"
    """forest, or mlp: five networks of ten layers"""
    encoding: Encoding | None = "one-hot"
    """one-hot or paths; None: the default of the space"""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise OcheError(f"Progressive: keep={self.keep} leaves nothing to expand; use keep >= 1")

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return Levels(self, moves, seed)


class Levels(Proposals):
    """The search at work. ``level``: the classes of isomorphic cells of the present complexity; the first of each is asked."""

    def __init__(self, settings: Progressive, moves: Moves, seed: int) -> None:
        self.settings, self.moves, self.seed = settings, moves, seed
        self.cells: list[Genotype] = []
        self.scores: list[float] = []
        self.complexity = 1
        self.level = self._classes(moves.smallest())
        self.asked = 0  # of this level
        self.told_before = 0  # reports of earlier levels

    def _classes(self, cells: list[Genotype]) -> list[list[Genotype]]:
        found: dict[str, dict[str, Genotype]] = {}
        for cell in cells:
            found.setdefault(self.moves.class_key(cell), {})[self.moves.key(cell)] = cell
        return [[*members.values()] for members in found.values()]

    def surrogate(self) -> Surrogate:
        """Fit the model to all cells so far."""
        seed = derive_seed(self.seed, "model", self.complexity)
        return fit(self.settings.model, self.moves, self.cells, self.scores, seed, self.settings.encoding)

    def ask(self) -> Ask | None:
        if self.asked == len(self.level):
            if len(self.scores) < self.told_before + len(self.level):
                return None
            self._expand()
        self.asked += 1
        return Ask(self.level[self.asked - 1][0])

    def _expand(self) -> None:
        """Make the next level. Raises `Done` if no cell can grow."""
        classes = self._classes([c for members in self.level for cell in members for c in self.moves.grow(cell)])
        if not classes:
            raise Done
        if len(classes) > self.settings.keep:
            predicted = self.surrogate()([members[0] for members in classes]).mean(0)
            classes = [classes[i] for i in (-predicted).argsort(kind="stable")[: self.settings.keep]]
        self.complexity += 1
        self.told_before += len(self.level)
        self.level, self.asked = classes, 0

    def tell(self, ask: Ask, report: Report) -> None:
        self.cells.append(ask.genotype)
        self.scores.append(report.score)
