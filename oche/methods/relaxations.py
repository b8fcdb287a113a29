"""Relaxations: functions from architecture logits to a mixture, the continuous stand-in for a discrete cell.

The mixture is an input of the network's forward, and noise is data: it is drawn once a step and passed in. So a relaxation
is a pure function, and every hypergradient works with every relaxation. Relaxations that draw noise are in
`oche.methods.stochastic_relaxations`.

Shapes: E edges of a cell, O candidate operations of an edge; logits a (E, O), mask alive (E, O) bool, weights of the
mixture (E, O).
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
        """Whether several candidates of an edge are evaluated in one forward pass."""
        return True

    @property
    def by_candidate(self) -> Relaxation:
        """The relaxation that weighs the candidates of an edge: this one, or the one it wraps."""
        return self

    def init(self, dag: Dag, candidates: int, scale: float, generator: torch.Generator) -> Tensor:
        """Return the first logits (E, O) of a search: ``scale`` · N(0, 1). Published code uses 1e-3; ``scale=0`` gives
        zeros.
        """
        return scale * torch.randn(len(dag), candidates, generator=generator)

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor | None:
        """Return the noise of one evaluation, or None if the relaxation is deterministic. Noise travels with the batch."""
        return None

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        """Return the mixture of logits ``a``.

        ``progress`` in [0, 1] drives annealing. ``noise=None`` gives the noise-free mixture, the expected or the most
        probable one, which decisions look at.
        """
        raise NotImplementedError

    def for_weights(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        """Return the mixture under which the weights train in this step. By default it is that of the architecture."""
        return self(a, alive, dag, noise, progress)

    @property
    def has_phases(self) -> bool:
        """Whether `for_weights` returns another mixture, so that weights and architecture cannot share a step."""
        return False

    @property
    def settles(self) -> bool:
        """Whether `settle` changes logits."""
        return False

    def settle(self, before: Tensor, after: Tensor, alive: Tensor, noise: Tensor) -> Tensor:
        """Return the logits to keep after an optimizer's step from ``before`` to ``after``. By default these are ``after``."""
        return after

    @property
    def has_log_prob(self) -> bool:
        """Whether a draw chooses candidates by a distribution that `log_prob` knows."""
        return False

    def log_prob(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor) -> Tensor:
        """Return the logarithm () of the probability under logits ``a`` of the candidates that ``noise`` chooses.

        The choice is a constant for the gradient.
        """
        raise NotImplementedError

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor | None:
        """Return an int64 tensor of the logits' shape with the number of the simplex that each logit's weight lies on, -1
        if dead.

        The weights on one simplex are the softmax of its logits; `oche.core.optimizers.ExponentiatedGradient` moves weights
        on simplices. None: the weights of this relaxation lie on no simplex.
        """
        return None


def masked_softmax(logits: Tensor, alive: Tensor) -> Tensor:
    """Return the softmax over the last axis among living entries; rows without a living entry are 0. logits, alive: (...,
    O).
    """
    alive = alive.to(logits.device)
    empty = ~alive.any(-1, keepdim=True)
    weights = logits.masked_fill(~alive & ~empty, -torch.inf).softmax(-1)
    return weights.masked_fill(empty, 0)


def softmax_per_node(logits: Tensor, alive: Tensor, dag: Dag) -> Tensor:
    """Return one `masked_softmax` for each node, over all entries of its incoming edges. logits, alive: (E, ...), edges
    ordered as in ``dag``.
    """
    sizes = [len(incoming) for incoming in dag.incoming]  # edges are ordered by target, so each node's are a slice
    parts = zip(logits.split(sizes), alive.split(sizes), strict=True)
    return torch.cat([masked_softmax(a.flatten(), on.flatten()).view_as(a) for a, on in parts])


def _targets(dag: Dag) -> Tensor:
    """Return the target node of each edge, (E,)."""
    return torch.tensor([target for _, target in dag.edges])


def one_simplex_per_edge(alive: Tensor) -> Tensor:
    """Return `Relaxation.simplices` (E, O) for a relaxation that takes one softmax for each edge."""
    return torch.arange(len(alive))[:, None].expand_as(alive).masked_fill(~alive, -1)


@component
@dataclass(frozen=True)
class Softmax(Relaxation):
    """DARTS (1806.09055 eq. 2): one softmax for each edge. w[e, o] = exp(a[e, o]) / Σ over living o' of exp(a[e, o'])."""

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        return Mix(masked_softmax(a, alive), None, alive_candidates(alive))

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor:
        return one_simplex_per_edge(alive)


@component
@dataclass(frozen=True)
class NodeSoftmax(Relaxation):
    """I-DARTS (Jiang et al., EMNLP 2019, D19-1367): one softmax over all (incoming edge, candidate) pairs of a node.

    w[e, o] = exp(a[e, o]) / Σ exp(a[e', o']) over living (e', o') with the same target node. So the edges of a node compete
    as well.
    """

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        return Mix(softmax_per_node(a, alive, dag), None, alive_candidates(alive))

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor:
        return _targets(dag)[:, None].expand_as(alive).masked_fill(~alive, -1)


@component
@dataclass(frozen=True)
class Sigmoid(Relaxation):
    """FairDARTS (1911.12126): w[e, o] = 1 / (1 + exp(-a[e, o])). Candidates do not compete."""

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        return Mix(a.sigmoid().masked_fill(~alive.to(a.device), 0), None, alive_candidates(alive))


@component
@dataclass(frozen=True)
class EdgeNormalised(Relaxation):
    """PC-DARTS' edge normalisation (1907.05737 §3.3): candidates are weighed by ``ops``, edges by a softmax over the edges
    into a node.

    Logits are (E, O + 1). The last column is beta, and the weight of an edge is exp(beta[e]) / Σ exp(beta[e']) over the
    edges e' into the same node. Edges without a living candidate weigh 0 and do not count. Decisions rank the products ops
    · edges.

    Raises `OcheError` if ``ops`` weighs edges already.
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
        """Return logits (E, O + 1): those of ``ops``, then ``scale`` · N(0, 1) for the edges."""
        ops = self.ops.init(dag, candidates, scale, generator)
        return torch.cat([ops, scale * torch.randn(len(dag), 1, generator=generator)], 1)

    def noise(self, dag: Dag, candidates: int, generator: torch.Generator) -> Tensor | None:
        return self.ops.noise(dag, candidates, generator)

    def __call__(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        mix = self.ops(a[:, :-1], alive, dag, noise, progress)
        return mix._replace(edges=softmax_per_node(a[:, -1], alive.any(1), dag))

    def for_weights(self, a: Tensor, alive: Tensor, dag: Dag, noise: Tensor | None, progress: float) -> Mix:
        mix = self.ops.for_weights(a[:, :-1], alive, dag, noise, progress)
        return mix._replace(edges=softmax_per_node(a[:, -1], alive.any(1), dag))

    @property
    def has_phases(self) -> bool:
        return self.ops.has_phases

    @property
    def settles(self) -> bool:
        return self.ops.settles

    def settle(self, before: Tensor, after: Tensor, alive: Tensor, noise: Tensor) -> Tensor:
        return torch.cat([self.ops.settle(before[:, :-1], after[:, :-1], alive, noise), after[:, -1:]], 1)

    def simplices(self, alive: Tensor, dag: Dag) -> Tensor | None:
        ops = self.ops.simplices(alive, dag)
        if ops is None:
            return None
        edges = (len(dag) + _targets(dag)).masked_fill(~alive.any(1), -1)
        return torch.cat([ops, edges[:, None]], 1)
