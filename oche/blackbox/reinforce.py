"""REINFORCE with independent logits: the reinforcement learning of the tabular benchmarks (2001.00326 §5; no LSTM)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from oche.blackbox.base import Ask, Proposals, Report, Strategy, usable
from oche.blackbox.moves import Moves
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class Reinforce(Strategy):
    """A policy gradient on one softmax for each decision of the space.

    The loss of one draw is −(r − b) Σ_d log p_d, with the score r and the moving average b of past scores, which is updated
    first. Adam, betas (0.9, 0.999). Scores that are not finite teach nothing. With parallel workers the gradient is that of
    the policy when the report arrives.
    """

    paper: ClassVar[str] = "Zoph & Le, 1611.01578"
    year: ClassVar[int] = 2017
    differs: ClassVar[str] = "policy gradient on independent logits"

    lr: float = 0.01
    """learning rate of Adam; the released scripts of NATS-Bench have 0.01"""
    decay: float = 0.9
    """decay of the moving average of scores"""
    correct_bias: bool = True
    """whether the average is divided by 1 − decay^t, as in the released code"""
    init: float = 1e-3
    """standard deviation of the initial logits"""

    def __post_init__(self) -> None:
        if not (self.lr > 0 and 0 <= self.decay < 1 and self.init >= 0):
            raise OcheError(
                f"Reinforce: lr={self.lr}, decay={self.decay}, init={self.init}; use lr > 0, 0 <= decay < 1, init >= 0"
            )

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return Policy(self, moves, seed)


class Policy(Proposals):
    """The policy at work. ``logits``: (D, V) for D decisions of at most V values; −inf beyond a decision's values."""

    def __init__(self, settings: Reinforce, moves: Moves, seed: int) -> None:
        self.settings, self.moves = settings, moves
        self.g = random.Random(derive_seed(seed, "reinforce"))
        shape = len(moves.decisions), max(moves.decisions)
        start = settings.init * np.random.default_rng(derive_seed(seed, "logits")).standard_normal(shape)
        valid = np.arange(shape[1]) < np.array(moves.decisions)[:, None]
        self.logits = np.where(valid, start, -np.inf)
        self.first, self.second, self.steps = np.zeros(shape), np.zeros(shape), 0
        self.average, self.seen = 0.0, 0
        self.drawn: dict[str, tuple[int, ...]] = {}

    def probabilities(self) -> np.ndarray:
        """Return (D, V) the probability of each value of each decision."""
        p = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    def ask(self) -> Ask:
        chosen = tuple(self._draw(row) for row in self.probabilities().tolist())
        genotype = self.moves.build(chosen)
        self.drawn[self.moves.key(genotype)] = chosen
        return Ask(genotype)

    def _draw(self, row: list[float]) -> int:
        left = self.g.random()
        for value, p in enumerate(row):
            left -= p
            if left < 0:
                return value
        return max(v for v, p in enumerate(row) if p > 0)

    def tell(self, ask: Ask, report: Report) -> None:
        if not usable(report.score):
            return
        self.seen += 1
        self.average = self.settings.decay * self.average + (1 - self.settings.decay) * report.score
        baseline = self.average / (1 - self.settings.decay**self.seen if self.settings.correct_bias else 1)
        self._step(self.gradient(self.drawn[self.moves.key(ask.genotype)], report.score - baseline))

    def gradient(self, chosen: tuple[int, ...], advantage: float) -> np.ndarray:
        """Return (D, V) the gradient of −advantage · log p(chosen) in the logits."""
        p = self.probabilities()
        p[np.arange(len(chosen)), chosen] -= 1
        return advantage * p

    def _step(self, gradient: np.ndarray) -> None:
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        mean, square = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        self.logits = self.logits - self.settings.lr * mean / (np.sqrt(square) + 1e-8)
