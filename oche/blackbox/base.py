"""The interface of black-box search: strategies that ask and are told, and evaluators that answer.

A strategy proposes genotypes and is told their scores. It never sees how they are made. An evaluator maps (genotype,
fidelity, seed) to a `Report` and never sees who asks. `oche.strategies.loop` brings both together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from oche.blackbox.moves import Moves
from oche.core.architecture import Genotype
from oche.core.errors import OcheError

Status = Literal["ok", "failed"]


class Done(Exception):
    """A strategy has ended by itself: it has nothing more to ask, whatever it is told."""


@dataclass(frozen=True)
class Ask:
    """One proposal. ``fidelity`` in (0, 1]: the share of a full evaluation. Raises `OcheError` outside."""

    genotype: Genotype
    fidelity: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fidelity <= 1:
            raise OcheError(f"fidelity={self.fidelity} is no share of a full evaluation; use 0 < fidelity <= 1")


@dataclass(frozen=True)
class Report:
    """The answer to one proposal.

    ``score``: larger is better; −inf where the evaluation failed or gave NaN. ``cost``: in the unit of the evaluator, 0 for a
    repeated question. ``numbers``: further facts, for records.
    """

    score: float
    cost: float
    fidelity: float = 1.0
    status: Status = "ok"
    numbers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(cls, cost: float, fidelity: float, reason: str) -> Report:
        """Return the report of an evaluation without a result. It ranks last and is counted."""
        return cls(-math.inf, cost, fidelity, "failed", {"error": reason})


class Proposals(ABC):
    """A strategy at work: its state in one search. The state follows from the seed and the order of calls alone."""

    @abstractmethod
    def ask(self) -> Ask | None:
        """Return the next proposal; None if reports of earlier ones must come first. Raises `Done` at the end."""

    @abstractmethod
    def tell(self, ask: Ask, report: Report) -> None:
        """Take the report of a proposal of `ask`. With parallel workers reports may come in any order."""


@dataclass(frozen=True)
class Strategy:
    """The settings of a strategy. Subclasses are frozen dataclasses."""

    paper: ClassVar[str] = ""
    year: ClassVar[int] = 0
    differs: ClassVar[str] = ""  #: what the strategy does, one line

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        """Return the strategy at work. ``queries``: the number of proposals that will be evaluated, if it is known.

        Raises `OcheError` for settings that do not fit the space or the number of queries.
        """
        raise NotImplementedError


class Evaluator(ABC):
    """Answers proposals. Must be picklable where several workers are used."""

    unit: ClassVar[Literal["queries", "seconds", "epochs"]]

    @abstractmethod
    def __call__(self, genotype: Genotype, fidelity: float, seed: int) -> Report:
        """Evaluate ``genotype``. An `OcheError` counts as a failed evaluation."""

    def describe(self) -> dict[str, Any]:
        """Return what the scores are, for the journal. It must be equal when a search goes on."""
        return {"evaluator": type(self).__name__, "unit": self.unit}


def check_counts(strategy: Strategy, *names: str) -> None:
    """Raise `OcheError` if one of the fields ``names`` of ``strategy`` is below 1. A field of None is passed over."""
    for name in names:
        if (value := getattr(strategy, name)) is not None and value < 1:
            raise OcheError(f"{type(strategy).__name__}: {name}={value}; use 1 or more")


def usable(score: float) -> bool:
    """Whether ``score`` is a number, which a model can be fitted to."""
    return math.isfinite(score)
