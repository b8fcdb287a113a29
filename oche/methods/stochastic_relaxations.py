"""Relaxations that draw: the mixture is a sample, a deterministic function of logits and noise.

Shapes: E edges of a cell, O candidates; logits a (E, O), mask alive (E, O), weights (E, O). Noise is one tensor a draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from oche.core.architecture import Dag, DeviceChoice, Mix, alive_candidates
from oche.core.registry import component
from oche.core.schedules import check_ends, linear
from oche.methods.relaxations import Relaxation, Softmax, masked_softmax


@dataclass(frozen=True)
class Gumbel(Softmax):
    """Base of what perturbs logits by Gumbel noise, at a temperature tau that follows the progress.

    Without noise it is the softmax of the logits, the probability with which each candidate is the largest.
    """

    tau: tuple[float, float] = (1.0, 1.0)
    """temperature at the start and at the end, linear in between"""

    def __post_init__(self) -> None:
        check_ends("tau", self.tau, positive=True)

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """(E, O) draws of -log(-log U)."""
        draws = torch.empty(len(dag), candidates).exponential_(generator=generator)
        # An exponential draw of 0 would make a candidate infinitely likely. (The released code of GDAS draws again.)
        return -draws.clamp_min(torch.finfo(draws.dtype).tiny).log()

    def soft(self, a: Tensor, alive: Tensor, noise: Tensor, progress: float) -> Tensor:
        """(E, O) softmax((a + noise) / tau) among the living. log softmax(a) for a changes nothing: it shifts rows."""
        return masked_softmax((a + noise) / linear(self.tau, progress), alive)


@component
@dataclass(frozen=True)
class Concrete(Gumbel):
    """SNAS (1812.09926): w[e, o] = softmax over living o of (a[e, o] + G[e, o]) / tau, every candidate evaluated."""

    tau: tuple[float, float] = (1.0, 0.03)
    """temperature at the start and at the end, linear in between"""

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return super().__call__(a, alive, dag, None, progress)
        return Mix(self.soft(a, alive, noise, progress), None, alive_candidates(alive))


@component
@dataclass(frozen=True)
class GumbelHard(Gumbel):
    """GDAS (1910.04465): one candidate an edge, argmax of a + G, its gradient straight through.

    With p = softmax((a + G) / tau) and c the argmax, w = onehot(c) in value and p in gradient. What a logit's gradient is
    then depends on which candidates are evaluated. With g[o] the derivative of the loss by w[o], at w = onehot(c)::

        chosen   dL/da[i] = g[c] · p[c] · (1{i = c} − p[i]) / tau
        all      dL/da[i] = p[i] · (g[i] − sum over o of p[o] · g[o]) / tau

    Deviation 1 from the released code, which evaluates the chosen candidate alone but adds the weights of the others, zeros,
    to every element of the edge's output, so that g[o] is there the sum of the output's gradient: a candidate that is not
    evaluated has g[o] = 0 here.
    """

    tau: tuple[float, float] = (10.0, 0.1)
    """temperature at the start and at the end, linear in between"""
    evaluate: Literal["chosen", "all"] = "chosen"
    """which candidates of an edge run: the chosen one (GDAS), or all of them, which costs more and varies less"""

    @property
    def mixes(self) -> bool:
        return self.evaluate == "all"

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        if noise is None:
            return super().__call__(a, alive, dag, None, progress)
        soft = self.soft(a, alive, noise, progress)
        choice = soft.argmax(1)  # of an edge with nothing alive: candidate 0, which the mask takes away below
        hard = torch.zeros_like(soft).scatter_(1, choice[:, None], 1).masked_fill(~alive.to(a.device), 0)
        weights = hard + (soft - soft.detach())  # exactly 0 or 1: what is added is exactly 0
        if self.evaluate == "all":
            return Mix(weights, None, alive_candidates(alive))
        return Mix(weights, None, DeviceChoice(choice, alive))


@component
@dataclass(frozen=True)
class UniformPath(Relaxation):
    """Random search with weight sharing (1902.07638 §3.2): each step trains one architecture drawn uniformly, logits or not.

    Each node gets `Dag.keep` of its incoming edges, each of these one living candidate, all with weight 1. Without noise it
    is the uniform mixture. As in the released code "none" is drawn as often as any other candidate.
    """

    @property
    def mixes(self) -> bool:
        return False

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """(E, O + 1) uniform numbers: of an edge's candidates, and of a node's edges (last column), the largest are drawn."""
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
    """elu(a) + 1, the Dirichlet's parameter (2006.10355), without the cancellation: exp(a) below 0, a + 1 above."""
    return torch.where(a > 0, a + 1, a.clamp_max(0).exp())


@component
@dataclass(frozen=True)
class Dirichlet(Relaxation):
    """DrNAS (2006.10355): w[e] ~ Dirichlet(elu(a[e]) + 1) over the living candidates, with pathwise gradients.

    A sample is a row of independent Gamma(concentration) draws divided by its sum; each draw's derivative by its
    concentration is taken at a fixed quantile. Noise is a seed, so equal (a, noise) give equal samples on one device; a
    sample is no continuous function of a at a fixed seed, since the sampler rejects.

    Deviation 1: torch's own Dirichlet, in the released code, differentiates along another path; per sample the gradients
    differ, their mean is the same. Deviation 2: the released code reads off cells by softmax(a); here decisions look at the
    mean, concentration / its sum, which orders the candidates of an edge alike, but not always the edges of a node.
    """

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor:
        """() int64, a seed."""
        return torch.randint(2**62, (), generator=generator)

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        on = alive.to(a.device)
        # In double precision: draws of a small concentration lie below what single precision can hold.
        parts = concentration(a.double()).masked_fill(~on, 1)
        if noise is not None:
            generator = torch.Generator(a.device).manual_seed(int(noise))  # one transfer to the host
            draws = torch._standard_gamma(parts, generator)  # pyright: ignore[reportPrivateImportUsage]
            parts = draws.clamp_min(1e-100)  # so that no sum is 0
        parts = parts.masked_fill(~on, 0)
        total = parts.sum(1, keepdim=True).masked_fill(~on.any(1, keepdim=True), 1)
        return Mix((parts / total).to(a.dtype), None, alive_candidates(alive))
