"""Progressive search (PNAS, Liu et al., ECCV 2018, 1712.00559): from small cells to large ones, with a predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed
from oche.strategies.base import Ask, Done, Proposals, Report, Strategy
from oche.strategies.moves import Encoding, Moves
from oche.strategies.surrogates import Model, Surrogate, fit


@component
@dataclass(frozen=True)
class Progressive(Strategy):
    """Evaluate all cells of complexity 1, then for each further complexity the ``keep`` best predicted expansions.

    Complexity is the number of edges that are not "none" (NAS-Bench-201), or the number of nodes (DARTS space, with one
    cell for both strides). Of isomorphic cells of NAS-Bench-201 one is kept. The model is fitted anew after every
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
    """The search at work. ``level``: the cells of the present complexity."""

    def __init__(self, settings: Progressive, moves: Moves, seed: int) -> None:
        self.settings, self.moves, self.seed = settings, moves, seed
        self.cells: list[Genotype] = []
        self.scores: list[float] = []
        self.complexity = 1
        self.level = moves.smallest()
        self.asked = 0  # of this level
        self.told_before = 0  # reports of earlier levels

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
        return Ask(self.level[self.asked - 1])

    def _expand(self) -> None:
        """Make the next level. Raises `Done` if no cell can grow."""
        grown = {self.moves.class_key(cell): cell for parent in self.level for cell in self.moves.grow(parent)}
        cells = [*grown.values()]
        if not cells:
            raise Done
        self.complexity += 1
        if len(cells) > self.settings.keep:
            order = (-self.surrogate()(cells).mean(0)).argsort(kind="stable")
            cells = [cells[i] for i in order[: self.settings.keep]]
        self.told_before += len(self.level)
        self.level, self.asked = cells, 0

    def tell(self, ask: Ask, report: Report) -> None:
        self.cells.append(ask.genotype)
        self.scores.append(report.score)
