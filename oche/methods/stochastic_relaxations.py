"""Stochastic relaxations: the mixture is a sample, a deterministic function of logits and noise.

Shapes: E edges of a cell, O candidate operations of an edge; logits a (E, O), mask alive (E, O) bool, weights of the
mixture (E, O). The noise of one draw is one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from oche.core.architecture import Dag, DeviceChoice, Mix, alive_candidates
from oche.core.registry import component
from oche.core.schedules import check_ends, geometric, linear
from oche.methods.relaxations import Relaxation, Softmax, masked_softmax


@dataclass(frozen=True)
class Gumbel(Softmax):
    """Base of relaxations that add Gumbel noise to the logits and take a softmax at a temperature tau.

    Without noise it is the softmax of the logits: the probability with which each candidate is the largest after the noise.
    """

    former: ClassVar[Mapping[str, Any]] = {"anneal": "linear"}  # a new field, which records of 0.1 lack

    tau: tuple[float, float] = (1.0, 1.0)
    """temperature at the start and at the end"""
    anneal: Literal["linear", "geometric"] = field(default="linear", kw_only=True)
    """how the temperature goes from one to the other"""

    def __post_init__(self) -> None:
        check_ends("tau", self.tau, positive=True)

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """Return standard Gumbel draws −log(−log U), (E, O)."""
        draws = torch.empty(len(dag), candidates).exponential_(generator=generator)
        # An exponential draw of 0 would make a candidate infinitely likely. (The released code of GDAS draws again.)
        return -draws.clamp_min(torch.finfo(draws.dtype).tiny).log()

    def soft(self, a: Tensor, alive: Tensor, noise: Tensor, progress: float) -> Tensor:
        """Return softmax((a + noise) / tau) among living candidates, (E, O).

        The papers write log softmax(a) for a. That shifts each row by a constant and changes nothing.
        """
        return masked_softmax((a + noise) / _ANNEAL[self.anneal](self.tau, progress), alive)


_ANNEAL = {"linear": linear, "geometric": geometric}


@component
@dataclass(frozen=True)
class Concrete(Gumbel):
    """SNAS (1812.09926): w[e, o] = softmax over living o of (a[e, o] + G[e, o]) / tau. Every candidate is evaluated."""

    tau: tuple[float, float] = (1.0, 0.03)
    """temperature at the start and at the end"""

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return super().__call__(a, alive, dag, None, progress)
        return Mix(self.soft(a, alive, noise, progress), None, alive_candidates(alive))


@component
@dataclass(frozen=True)
class GumbelHard(Gumbel):
    """GDAS (1910.04465): one candidate of each edge, the argmax of a + G, with a straight-through gradient.

    With p = softmax((a + G) / tau) and c the argmax, the mixture is onehot(c) in value and p in gradient. So the gradient
    of a logit depends on which candidates are evaluated. With g[o] the derivative of the loss with respect to w[o], at w =
    onehot(c)::

        chosen   dL/da[i] = g[c] · p[c] · (1{i = c} − p[i]) / tau
        all      dL/da[i] = p[i] · (g[i] − Σ over o of p[o] · g[o]) / tau

    Deviation 1: the released code evaluates the chosen candidate alone, but adds the weights of the others, which are
    zeros, to every element of the edge's output. There g[o] of the others is the sum of the output's gradient; here it is
    0.
    """

    tau: tuple[float, float] = (10.0, 0.1)
    """temperature at the start and at the end"""
    evaluate: Literal["chosen", "all"] = "chosen"
    """candidates of an edge that are evaluated: the chosen one (GDAS), or all, which costs more and has less variance"""

    @property
    def mixes(self) -> bool:
        return self.evaluate == "all"

    @property
    def has_log_prob(self) -> bool:
        return True

    def log_prob(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor) -> Tensor:
        """Return the logarithm () of the probability of the candidates that ``noise`` chose: Σ over edges of log p[e, c]."""
        on = alive.to(a.device)
        choice = (a.detach() + noise).masked_fill(~on, -torch.inf).argmax(1)
        p = masked_softmax(a, alive).gather(1, choice[:, None])[:, 0]
        return p.masked_fill(~on.any(1), 1).log().sum()

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return super().__call__(a, alive, dag, None, progress)
        soft = self.soft(a, alive, noise, progress)
        choice = soft.argmax(1)  # candidate 0 on an edge with nothing alive; the mask removes it below
        hard = torch.zeros_like(soft).scatter_(1, choice[:, None], 1).masked_fill(~alive.to(a.device), 0)
        weights = hard + (soft - soft.detach())  # exactly 0 or 1: the difference is exactly 0
        if self.evaluate == "all":
            return Mix(weights, None, alive_candidates(alive))
        return Mix(weights, None, DeviceChoice(choice, alive))


class _Pair(NamedTuple):
    """Two candidates of each edge, drawn without replacement."""

    both: Tensor  # (E, 2) their indices
    shares: Tensor  # (E, 2) the softmax of their logits; 0 for a dead one
    first: Tensor  # (E,) bool, whether the first of them is the active one


@component
@dataclass(frozen=True)
class TwoPaths(Softmax):
    """ProxylessNAS' binary gates (1812.00332 §3.2.1): two candidates of each edge are drawn, and one of them is active.

    The two largest of a + G are a draw {i, j} without replacement from softmax(a). With p' = softmax(a[i], a[j]) the active one
    is drawn by p'. For the weights, the active candidate alone is evaluated. For the architecture both are, with gates g =
    onehot(active) in value and p' in gradient, so that::

        dL/da[i] = Σ over k in {i, j} of ⟨dL/dy, o_k(x)⟩ · p'[k] · (1{k = i} − p'[i])

    with y the output of the active candidate. After the optimizer's step `settle` shifts both logits, so that the
    probabilities of all other candidates stay as they were. Without noise the mixture is softmax(a).

    Deviation 2: one draw serves both steps; the paper draws for each. Deviation 3: where "none" is active, the released code
    discards the gradient of that edge; here its output is 0, and the step is taken.
    """

    @property
    def mixes(self) -> bool:
        return False

    @property
    def has_phases(self) -> bool:
        return True

    @property
    def settles(self) -> bool:
        return True

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """Return (E, O + 1): standard Gumbel draws, and in the last column a uniform one that chooses the active candidate."""
        gumbel = Gumbel().noise(dag, candidates, generator)
        return torch.cat([gumbel, torch.rand(len(dag), 1, generator=generator)], 1)

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return super().__call__(a, alive, dag, None, progress)
        pair = self._pair(a, alive, noise)
        gates = _one_hot(pair) + (pair.shares - pair.shares.detach())
        rows = zip(pair.both.tolist(), pair.shares.tolist(), strict=True)  # a transfer to the host
        active = tuple(tuple(sorted(o for o, p in zip(*row, strict=True) if p > 0)) for row in rows)
        return Mix(torch.zeros_like(a).scatter(1, pair.both, gates), None, active)

    def for_weights(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return super().for_weights(a, alive, dag, None, progress)
        pair = self._pair(a.detach(), alive, noise)
        choice = torch.where(pair.first, pair.both[:, 0], pair.both[:, -1])
        weights = torch.zeros_like(a, requires_grad=False).scatter(1, pair.both, _one_hot(pair))
        return Mix(weights, None, DeviceChoice(choice, alive))

    def settle(self, before: Tensor, after: Tensor, alive: Tensor, noise: Tensor) -> Tensor:
        pair = self._pair(before, alive, noise)
        usable = alive.to(after.device).gather(1, pair.both)
        old, new = (t.gather(1, pair.both).masked_fill(~usable, -torch.inf).logsumexp(1) for t in (before, after))
        shift = (new - old).masked_fill(~usable.any(1), 0)[:, None].expand_as(pair.both)
        return after.scatter_add(1, pair.both, -shift.masked_fill(~usable, 0))

    @staticmethod
    def _pair(a: Tensor, alive: Tensor, noise: Tensor) -> _Pair:
        """Return the candidates that ``noise`` draws. On an edge with one living candidate, that one is active."""
        on = alive.to(a.device)
        both = (a.detach() + noise[:, :-1]).masked_fill(~on, -torch.inf).topk(min(2, a.shape[1]), 1).indices
        shares = masked_softmax(a.gather(1, both), on.gather(1, both))
        return _Pair(both, shares, noise[:, -1] < shares[:, 0].detach())


def _one_hot(pair: _Pair) -> Tensor:
    """Return 1 for the active candidate of each pair and 0 for the other, (E, 2); 0 for both on an edge without candidates."""
    chosen = torch.stack([pair.first, ~pair.first], 1)[:, : pair.both.shape[1]]
    return (chosen & (pair.shares > 0)).to(pair.shares.dtype)


@component
@dataclass(frozen=True)
class UniformPath(Relaxation):
    """Random search with weight sharing (1902.07638 §3.2): each step trains one uniformly drawn architecture, whatever the
    logits.

    Each node gets `Dag.keep` of its incoming edges, and each of these one living candidate, all with weight 1. Without
    noise the mixture is uniform. As in the released code, "none" is drawn as often as any other candidate.
    """

    @property
    def mixes(self) -> bool:
        return False

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """Return uniform numbers (E, O + 1). The largest win: of an edge's candidates, and in the last column of a node's
        edges.
        """
        return torch.rand(len(dag), candidates + 1, generator=generator)

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return Mix(masked_softmax(torch.zeros_like(a), alive), None, alive_candidates(alive))
        draws = noise.cpu()  # the only transfer to the host
        choice = draws[:, :-1].masked_fill(~alive, -1).argmax(1)
        order = draws[:, -1].masked_fill(~alive.any(1), -1)
        drawn = torch.zeros_like(alive)
        for incoming in map(list, dag.incoming):
            for i in order[incoming].topk(min(dag.keep, len(incoming))).indices.tolist():
                drawn[incoming[i], choice[incoming[i]]] = True
        drawn &= alive
        return Mix(drawn.to(a.device, a.dtype), None, alive_candidates(drawn))


def concentration(a: Tensor) -> Tensor:
    """Return the parameter of the Dirichlet distribution, elu(a) + 1 (2006.10355), elementwise.

    It is computed as exp(a) below 0 and a + 1 above, which avoids the cancellation in elu(a) + 1.
    """
    return torch.where(a > 0, a + 1, a.clamp_max(0).exp())


@component
@dataclass(frozen=True)
class Dirichlet(Relaxation):
    """DrNAS (2006.10355): w[e] ~ Dirichlet(elu(a[e]) + 1) over the living candidates, with pathwise gradients.

    A sample is a row of independent Gamma(concentration) draws divided by its sum. The derivative of each draw with respect
    to its concentration is taken at a fixed quantile. Noise is a seed, so that equal (a, noise) give equal samples on one
    device. For a fixed seed, a sample is not a continuous function of a, because the sampler rejects.

    Deviation 1: the released code uses torch's own Dirichlet, which differentiates along another path. The gradients of
    single samples differ; their mean is the same.

    Deviation 2: the released code reads cells off softmax(a). Here decisions look at the mean, concentration / its sum.
    Both order the candidates of an edge alike, but not always the edges of a node.
    """

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """Return a seed, a () int64."""
        return torch.randint(2**62, (), generator=generator)

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        on = alive.to(a.device)
        # In float64: draws with a small concentration underflow in float32.
        parts = concentration(a.double()).masked_fill(~on, 1)
        if noise is not None:
            generator = torch.Generator(a.device).manual_seed(int(noise))  # one transfer to the host
            draws = torch._standard_gamma(parts, generator)  # pyright: ignore[reportPrivateImportUsage]
            parts = draws.clamp_min(1e-100)  # so that no sum is 0
        parts = parts.masked_fill(~on, 0)
        total = parts.sum(1, keepdim=True).masked_fill(~on.any(1, keepdim=True), 1)
        return Mix((parts / total).to(a.dtype), None, alive_candidates(alive))
