"""Relaxations: from logits to a mixture (design: the mixture is an input of the network's forward, noise is data).

Shapes: E edges of a cell, O candidates; logits a (E, O), mask alive (E, O), weights (E, O). Those that draw noise are in
`oche.methods.stochastic_relaxations`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oche.core.architecture import Dag, Mix, alive_candidates
from oche.core.errors import OcheError
from oche.core.registry import component


@dataclass(frozen=True)
class Relaxation:
    """A pure function of logits, mask, noise and progress. Dead candidates get weight exactly 0 and no gradient."""

    @property
    def mixes(self) -> bool:
        """Whether a mixture has several candidates of an edge evaluated."""
        return True

    @property
    def by_candidate(self) -> Relaxation:
        """The part that weighs the candidates of an edge."""
        return self

    def init(self, dag: Dag, candidates: int, scale: float, generator: torch.Generator) -> Tensor:
        """Logits (E, O) to start from: ``scale`` · N(0, 1), as the published code (1e-3), or zeros (the seed)."""
        return scale * torch.randn(len(dag), candidates, generator=generator)

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor | None:
        """What one evaluation draws; None for a deterministic relaxation. It travels with the batch."""
        return None

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        """The mixture; ``noise=None`` asks for the noise-free one (expected or most probable) that decisions look at."""
        raise NotImplementedError

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor | None:
        """int64 of the logits' shape: which simplex the weight of each logit lies on, -1 for dead ones.

        The weights of one simplex are the softmax of its logits; `oche.core.optimizers.ExponentiatedGradient` moves on them. None:
        the weights of this relaxation lie on none.
        """
        return None


def masked_softmax(logits: Tensor, alive: Tensor) -> Tensor:
    """Softmax over the last axis among living entries; rows without any are 0. logits, alive: (..., O)."""
    alive = alive.to(logits.device)
    empty = ~alive.any(-1, keepdim=True)
    weights = logits.masked_fill(~alive & ~empty, -torch.inf).softmax(-1)
    return weights.masked_fill(empty, 0)


def per_node(logits: Tensor, alive: Tensor, dag: Dag) -> Tensor:
    """`masked_softmax` over everything that enters a node together. logits, alive: (E, ...), edges in the Dag's order."""
    sizes = [len(incoming) for incoming in dag.incoming]  # edges are ordered by target, so each node's are a slice
    parts = zip(logits.split(sizes), alive.split(sizes), strict=True)
    return torch.cat([masked_softmax(a.flatten(), on.flatten()).view_as(a) for a, on in parts])


def _targets(dag: Dag) -> Tensor:
    """(E,) the target node of each edge."""
    return torch.tensor([target for _, target in dag.edges])


def by_edge(alive: Tensor) -> Tensor:
    """`Relaxation.simplices` where each edge has its own."""
    return torch.arange(len(alive))[:, None].expand_as(alive).masked_fill(~alive, -1)


@component
@dataclass(frozen=True)
class Softmax(Relaxation):
    """DARTS (1806.09055 eq. 2): w[e, o] = exp(a[e, o]) / sum over living o' of exp(a[e, o'])."""

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        return Mix(masked_softmax(a, alive), None, alive_candidates(alive))

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor:
        return by_edge(alive)


@component
@dataclass(frozen=True)
class NodeSoftmax(Relaxation):
    """I-DARTS (Jiang et al., EMNLP 2019, D19-1367): one softmax over all (incoming edge, candidate) pairs of a node.

    w[e, o] = exp(a[e, o]) / sum over living (e', o') with the same target of exp(a[e', o']): edges compete, too.
    """

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        return Mix(per_node(a, alive, dag), None, alive_candidates(alive))

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor:
        return _targets(dag)[:, None].expand_as(alive).masked_fill(~alive, -1)


@component
@dataclass(frozen=True)
class Sigmoid(Relaxation):
    """FairDARTS (1911.12126): w[e, o] = 1 / (1 + exp(-a[e, o])); candidates do not compete."""

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        return Mix(a.sigmoid().masked_fill(~alive.to(a.device), 0), None, alive_candidates(alive))


@component
@dataclass(frozen=True)
class EdgeNormalised(Relaxation):
    """PC-DARTS (1907.05737, edge normalisation): candidates by ``ops``, edges by a softmax over a node's incoming ones.

    Logits are (E, O + 1): the last column is beta, and edges[e] = exp(beta[e]) / sum over edges e' into the same node of
    exp(beta[e']). Edges with nothing alive weigh 0 and do not count. Decisions rank ops · edges.
    """

    ops: Relaxation = Softmax()
    """how the candidates of an edge are weighed"""

    def __post_init__(self) -> None:
        if isinstance(self.ops, EdgeNormalised | NodeSoftmax):
            raise OcheError(
                f"EdgeNormalised(ops={type(self.ops).__name__}()) would weigh edges twice; "
                "use ops=Softmax() or another that weighs candidates alone"
            )

    @property
    def mixes(self) -> bool:
        return self.ops.mixes

    @property
    def by_candidate(self) -> Relaxation:
        return self.ops

    def init(self, dag: Dag, candidates: int, scale: float, generator: torch.Generator) -> Tensor:
        """Logits (E, O + 1): those of ``ops``, then ``scale`` · N(0, 1) for the edges."""
        ops = self.ops.init(dag, candidates, scale, generator)
        return torch.cat([ops, scale * torch.randn(len(dag), 1, generator=generator)], 1)

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor | None:
        return self.ops.noise(dag, candidates, generator)

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        mix = self.ops(a[:, :-1], alive, dag, noise, progress)
        return mix._replace(edges=per_node(a[:, -1], alive.any(1), dag))

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor | None:
        ops = self.ops.simplices(alive, dag)
        if ops is None:
            return None
        edges = (len(dag) + _targets(dag)).masked_fill(~alive.any(1), -1)
        return torch.cat([ops, edges[:, None]], 1)
