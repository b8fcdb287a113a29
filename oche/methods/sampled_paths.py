"""Sampled paths: the policy of ENAS (Pham et al., ICML 2018, 1802.03268) with independent logits.

The paper's controller is an LSTM. Here the logits of the edges are the policy, so no state is added to a search. They move by
`oche.methods.score_function.ScoreFunction`.

Shapes: E edges of a cell, O candidate operations; logits a (E, O), mask alive (E, O) bool.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oche.core.architecture import Dag, Mix, alive_candidates
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.relaxations import Relaxation, masked_softmax
from oche.methods.stochastic_relaxations import Gumbel


@component
@dataclass(frozen=True)
class SampledPath(Relaxation):
    """One architecture drawn from the logits: weight 1 for what it has, 0 for the rest, without a gradient.

    A kept edge has one candidate, drawn from the softmax of its logits. If a node keeps fewer edges than it has, they are
    drawn one after the other, with probabilities proportional to Σ_o exp(l[e, o]) among those that are left. So the first
    (edge, candidate) of a node is a draw from one softmax over all of them. ``limit`` c makes l = c · tanh(a), else l = a.

    Without noise the mixture has the probabilities: of the candidates of an edge, and of the edges to be drawn first.

    Deviation 1: the logits are independent. The paper has an LSTM, whose choice depends on those before.
    Deviation 2: one ``limit`` for both choices. The released code has c = 1.1 for sources and 0.44 for operations.
    Deviation 3: the start is even. The released code starts with a bias for separable convolutions.
    """

    limit: float | None = None
    """c, the largest logit; None: no limit"""

    def __post_init__(self) -> None:
        if self.limit is not None and not self.limit > 0:
            raise OcheError(f"SampledPath: limit={self.limit} allows no logits; use limit > 0, or None")

    @property
    def mixes(self) -> bool:
        return False

    @property
    def carries_gradient(self) -> bool:
        return False

    @property
    def has_log_prob(self) -> bool:
        return True

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """Return Gumbel draws (E, O + 1): for the candidates of an edge, and in the last column for the edges of a node."""
        return Gumbel().noise(dag, candidates + 1, generator)

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return self._probabilities(a, alive, dag)
        choice, orders = self._draw(a, alive, dag, noise)
        drawn = torch.zeros_like(alive, device="cpu")
        for order, kept in orders:
            for e in order[:kept]:
                drawn[e, choice[e]] = True
        return Mix(drawn.to(a.device, a.dtype), None, alive_candidates(drawn))

    def log_prob(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor) -> Tensor:
        """Return the log probability () of the draw that ``noise`` gives for the values of ``a``, differentiable in ``a``."""
        choice, orders = self._draw(a, alive, dag, noise)
        logits, strength = self._logits(a, alive)
        log_p = logits - strength[:, None]
        terms = []
        for order, kept in orders:
            for t, e in enumerate(order[:kept]):
                terms.append(log_p[e, choice[e]])
                if kept < len(order):  # the edge was drawn among those that were left
                    terms.append(strength[e] - strength[order[t:]].logsumexp(0))
        return torch.stack(terms).sum() if terms else a.sum() * 0

    def _logits(self, a: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Return (E, O) the logits, −inf for dead candidates, and (E,) their logsumexp."""
        logits = a if self.limit is None else self.limit * a.tanh()
        on = alive.to(a.device)
        logits = logits.masked_fill(~on & on.any(1, keepdim=True), -torch.inf)
        return logits, logits.logsumexp(1)

    def _draw(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor) -> tuple[list[int], list[tuple[list[int], int]]]:
        """Return the candidate of each edge, and for each node its living edges in the order drawn, with the number kept."""
        alive, noise = alive.cpu(), noise.cpu()  # with the logits the only transfers to the host
        logits, strength = self._logits(a.detach().cpu(), alive)
        choice = (logits + noise[:, :-1]).argmax(1).tolist()
        rank = strength + noise[:, -1]
        orders = []
        for incoming in dag.incoming:
            edges = [e for e in incoming if bool(alive[e].any())]
            order = sorted(edges, key=lambda e: -float(rank[e]))
            orders.append((order, min(dag.keep, len(order))))
        return choice, orders

    def _probabilities(self, a: Tensor, alive: Tensor, dag: Dag) -> Mix:
        logits, strength = self._logits(a, alive)
        ops, active = masked_softmax(logits, alive), alive_candidates(alive)
        if all(len(incoming) <= dag.keep for incoming in dag.incoming):
            return Mix(ops, None, active)
        edges = torch.zeros_like(strength)
        some = alive.any(1).to(a.device)
        for incoming in map(list, dag.incoming):
            edges[incoming] = masked_softmax(strength[incoming], some[incoming])
        return Mix(ops, edges, active)
