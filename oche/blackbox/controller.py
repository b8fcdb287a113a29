"""Autoregressive LSTM controllers, trained by REINFORCE (Zoph & Le, 1611.01578) or PPO (NASNet, 1707.07012).

Shapes: D decisions of a space, B architectures.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from oche.blackbox.base import Ask, Proposals, Report, Strategy, check_counts, usable
from oche.blackbox.moves import Moves
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.seeds import derive_seed


@component
@dataclass(frozen=True)
class Controller(Strategy):
    """An LSTM draws one decision after the other; each choice is embedded and is the next input.

    After every ``batch`` scores r the controller takes a step of Adam on −mean (r − b) Σ_d log p_d (``"reinforce"``), or
    ``passes`` steps on −mean min(ρ A, clip(ρ, 1 ± clip) A) with A = r − b and the ratio ρ of the probabilities now and at
    the draw (``"ppo"``, 1707.06347 eq. 7), minus ``entropy`` times the mean entropy of the decisions. The baseline b is a
    moving average of scores, divided by 1 − decay^t, which is updated first. Scores that are not finite teach nothing.

    Deviation 1: decisions are those of the space here: an operation for each edge of NAS-Bench-201, sources and operations
    for each node of the DARTS space. The papers' controllers also choose filter sizes, or how two states are combined.
    Deviation 2: the score is the reward. Zoph and Le take the cube of the accuracy.
    """

    paper: ClassVar[str] = "Zoph & Le, 1611.01578"
    year: ClassVar[int] = 2017
    differs: ClassVar[str] = "an LSTM draws the decisions, trained by REINFORCE"

    algorithm: Literal["reinforce", "ppo"] = "reinforce"
    """the policy gradient, or proximal policy optimisation"""
    units: int = 35
    """units of each layer of the LSTM, and length of embeddings"""
    layers: int = 2
    """layers of the LSTM"""
    init: float = 0.08
    """weights start uniformly in plus or minus this"""
    lr: float = 6e-4
    """learning rate of Adam"""
    batch: int = 10
    """scores before an update"""
    decay: float = 0.9
    """decay of the moving average of scores"""
    entropy: float = 0.0
    """weight of the entropy of the decisions"""
    clip: float = 0.2
    """PPO: the ratio counts only within 1 plus or minus this"""
    passes: int = 4
    """PPO: steps on each batch"""

    def __post_init__(self) -> None:
        check_counts(self, "units", "layers", "batch", "passes")
        if not (self.lr > 0 and self.init > 0 and 0 <= self.decay < 1 and self.entropy >= 0 and self.clip > 0):
            raise OcheError(
                f"Controller: lr={self.lr}, init={self.init}, decay={self.decay}, entropy={self.entropy}, clip={self.clip}; "
                "use lr > 0, init > 0, 0 <= decay < 1, entropy >= 0, clip > 0"
            )

    def start(self, moves: Moves, seed: int, queries: int | None = None) -> Proposals:
        return Agent(self, moves, seed)


class Policy(nn.Module):
    """The controller's network: an LSTM with a softmax for each decision. Weights start uniformly within ± ``init``."""

    def __init__(self, decisions: tuple[int, ...], units: int, layers: int, init: float, seed: int) -> None:
        super().__init__()
        self.decisions = decisions
        self.embedding = nn.Embedding(1 + sum(decisions), units)  # the start, then the values of each decision
        self.cells = nn.ModuleList(nn.LSTMCell(units, units) for _ in range(layers))
        self.heads = nn.ModuleList(nn.Linear(units, n) for n in decisions)
        starts = [1]
        for n in decisions[:-1]:
            starts.append(starts[-1] + n)
        self.starts = tuple(starts)
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.uniform_(-init, init, generator=g)

    def _first(self, count: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        zeros = torch.zeros(count, self.embedding.embedding_dim)
        return self.embedding(torch.zeros(count, dtype=torch.long)), [(zeros, zeros) for _ in self.cells]

    def _step(
        self, x: Tensor, state: list[tuple[Tensor, Tensor]], d: int
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return log probabilities (B, V) of decision ``d``, and the next state."""
        after = []
        for cell, before in zip(self.cells, state, strict=True):
            after.append(cell(x, before))
            x = after[-1][0]
        return self.heads[d](x).log_softmax(1), after

    def forward(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, D) the log probability of each decision of ``chosen`` (B, D) given those before, and its entropy."""
        x, state = self._first(len(chosen))
        found, entropies = [], []
        for d, start in enumerate(self.starts):
            log_p, state = self._step(x, state, d)
            found.append(log_p.gather(1, chosen[:, d : d + 1])[:, 0])
            entropies.append(-(log_p.exp() * log_p).sum(1))
            x = self.embedding(start + chosen[:, d])
        return torch.stack(found, 1), torch.stack(entropies, 1)

    @torch.no_grad()
    def draw(self, g: random.Random) -> tuple[tuple[int, ...], float]:
        """Draw the decisions of one architecture; return them and the log of their probability."""
        x, state = self._first(1)
        chosen: list[int] = []
        total = 0.0
        for d, start in enumerate(self.starts):
            log_p, state = self._step(x, state, d)
            row = log_p[0].double().exp().tolist()
            chosen.append(g.choices(range(len(row)), row)[0])
            total += float(log_p[0, chosen[-1]])
            x = self.embedding(torch.tensor([start + chosen[-1]]))
        return tuple(chosen), total


class Agent(Proposals):
    """The controller at work."""

    def __init__(self, settings: Controller, moves: Moves, seed: int) -> None:
        self.settings, self.moves = settings, moves
        self.g = random.Random(derive_seed(seed, "controller"))
        weights = derive_seed(seed, "weights")
        self.policy = Policy(moves.decisions, settings.units, settings.layers, settings.init, weights)
        self.adam = torch.optim.Adam(self.policy.parameters(), lr=settings.lr)
        self.drawn: dict[str, tuple[tuple[int, ...], float]] = {}
        self.batch: list[tuple[tuple[int, ...], float, float]] = []  # decisions, log probability at the draw, advantage
        self.average, self.seen = 0.0, 0

    def ask(self) -> Ask:
        chosen, log_p = self.policy.draw(self.g)
        genotype = self.moves.build(chosen)
        self.drawn[self.moves.key(genotype)] = chosen, log_p
        return Ask(genotype)

    def tell(self, ask: Ask, report: Report) -> None:
        if not usable(report.score):
            return
        decay = self.settings.decay
        self.seen += 1
        self.average = decay * self.average + (1 - decay) * report.score
        baseline = self.average / (1 - decay**self.seen)
        self.batch.append((*self.drawn[self.moves.key(ask.genotype)], report.score - baseline))
        if len(self.batch) == self.settings.batch:
            chosen, old, advantages = zip(*self.batch, strict=True)
            self.batch = []
            for _ in range(self.settings.passes if self.settings.algorithm == "ppo" else 1):
                loss = self.loss(torch.tensor(chosen), torch.tensor(old), torch.tensor(advantages))
                self.adam.zero_grad()
                loss.backward()
                self.adam.step()

    def loss(self, chosen: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """Return the loss () of a batch: decisions (B, D), log probabilities at their draw (B,), advantages (B,)."""
        log_p, entropy = self.policy(chosen)
        log_p = log_p.sum(1)
        if self.settings.algorithm == "ppo":
            ratio, clip = (log_p - old).exp(), self.settings.clip
            gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        else:
            gain = log_p * advantages
        return -gain.mean() - self.settings.entropy * entropy.mean()
