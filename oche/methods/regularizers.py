"""Penalties on the architecture. They are added to the upper loss only, and include their own weight.

Shapes: E edges of a cell, O candidate operations; logits a (E, O), mask alive (E, O) bool. Logits may be wider: the columns
after the O-th are edge logits, which no penalty here looks at. Dead candidates contribute exactly 0 and get no gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from oche.core.architecture import Mix
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.schedules import check_ends, linear
from oche.methods.relaxations import Relaxation, Sigmoid
from oche.methods.stochastic_relaxations import Dirichlet, concentration

if TYPE_CHECKING:
    from oche.spaces.base import Space

Group = tuple[Tensor, Tensor, Mix]  # (a, alive, mix) of one group of edges


@dataclass(frozen=True)
class Penalty:
    """A differentiable function of logits, mask and mixture. ``p + q`` adds both penalties."""

    #: the relaxation whose weights the penalty is about; None: any
    relaxation: ClassVar[type[Relaxation] | None] = None

    def check(self, relax: Relaxation) -> None:
        """Raise `OcheError` if the penalty is meaningless for the weights of ``relax``."""
        if self.relaxation is not None and not isinstance(relax.by_candidate, self.relaxation):
            raise OcheError(
                f"{type(self).__name__} is about the weights of {self.relaxation.__name__}, "
                f"not of {type(relax.by_candidate).__name__}; use relax={self.relaxation.__name__}(), or another penalty"
            )

    def check_space(self, space: Space) -> None:
        """Raise `OcheError` if the penalty does not fit ``space``."""

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        """Return the penalty () of one group of edges, at ``progress`` in [0, 1]."""
        raise NotImplementedError

    def over(self, groups: Iterable[Group], progress: float) -> Tensor:
        """Return the penalty () of all groups of edges, which is added to the upper loss."""
        return torch.stack([self(*group, progress) for group in groups]).sum()

    def __add__(self, other: Penalty) -> Sum:
        return Sum((*summands(self), *summands(other)))


def summands(penalty: Penalty | None) -> tuple[Penalty, ...]:
    """Return the penalties that ``penalty`` adds up: () for None, one for a single penalty."""
    if penalty is None:
        return ()
    return penalty.parts if isinstance(penalty, Sum) else (penalty,)


@component
@dataclass(frozen=True)
class Sum(Penalty):
    """Several penalties added up. Raises `OcheError` if there are none."""

    parts: tuple[Penalty, ...]
    """the penalties to add"""

    def __post_init__(self) -> None:
        if not self.parts:
            raise OcheError("a Sum of no penalties penalises nothing; give at least one, or no penalty at all")

    def check(self, relax: Relaxation) -> None:
        for part in self.parts:
            part.check(relax)

    def check_space(self, space: Space) -> None:
        for part in self.parts:
            part.check_space(space)

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        return torch.stack([part(a, alive, mix, progress) for part in self.parts]).sum()

    def over(self, groups: Iterable[Group], progress: float) -> Tensor:
        groups = list(groups)
        return torch.stack([part.over(groups, progress) for part in self.parts]).sum()


@dataclass(frozen=True)
class MeanPenalty(Penalty):
    """Base of penalties of the form weight · mean of terms. The mean is over the terms of all groups together."""

    def rate(self, progress: float) -> float:
        """Return the weight at ``progress``."""
        raise NotImplementedError

    def terms(self, a: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Return the terms, of any shape and all finite, dead ones too; and a bool tensor of that shape, True for living
        terms.
        """
        raise NotImplementedError

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        return self.over([(a, alive, mix)], progress)

    def over(self, groups: Iterable[Group], progress: float) -> Tensor:
        pairs = [self.terms(a[:, : alive.shape[1]], alive.to(a.device)) for a, alive, _ in groups]
        total = torch.stack([terms.masked_fill(~on, 0).sum() for terms, on in pairs]).sum()
        count = torch.stack([on.sum() for _, on in pairs]).sum().clamp_min(1)
        return self.rate(progress) * total / count


@component
@dataclass(frozen=True)
class ZeroOne(MeanPenalty):
    """FairDARTS' zero-one loss (1911.12126): −weight · mean of (sigmoid(a) − 1/2)². It pushes every weight to 0 or 1.

    The mean is over the living logits of all groups together, as the released code concatenates them. For `Sigmoid`
    relaxations only.
    """

    relaxation = Sigmoid

    weight: float = 10.0
    """strength; published: 10"""

    def __post_init__(self) -> None:
        _check_weight("ZeroOne", self.weight)

    def rate(self, progress: float) -> float:
        return self.weight

    def terms(self, a: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        return -((a.sigmoid() - 0.5) ** 2), alive


@component
@dataclass(frozen=True)
class BetaDecay(MeanPenalty):
    """β-DARTS (2203.01665): weight · mean over edges of log Σ over living o of exp(a[e, o]).

    Its gradient with respect to a is weight · softmax(a) / edges: a decay that is stronger for larger weights of the
    mixture. In the released code the weight grows by 0.5 an epoch: to 25 in the 50 epochs of the DARTS space, to 50 in the
    100 epochs of NAS-Bench-201.
    """

    weight: tuple[float, float] = (0.0, 25.0)
    """strength at the start and at the end, linear in between"""

    def __post_init__(self) -> None:
        check_ends("weight", self.weight, positive=False)

    def rate(self, progress: float) -> float:
        return linear(self.weight, progress)

    def terms(self, a: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        some = alive.any(1)
        return a.masked_fill(~alive & some[:, None], -torch.inf).logsumexp(1), some


@component
@dataclass(frozen=True)
class DirichletKL(Penalty):
    """DrNAS (2006.10355): weight · Σ over edges of KL(Dirichlet(elu(a[e]) + 1) ‖ Dirichlet(1)), over living
    candidates.

    With c the concentrations of the K living candidates of an edge, and s their sum::

        KL = log Γ(s) − Σ log Γ(c) − log Γ(K) + Σ (c − 1)(ψ(c) − ψ(s))

    For `Dirichlet` relaxations only.

    Deviation 1: the released code still counts the candidates that its progressive stages dropped.
    """

    relaxation = Dirichlet

    weight: float = 1e-3
    """strength; published: 1e-3 (then without weight decay of the logits)"""

    def __post_init__(self) -> None:
        _check_weight("DirichletKL", self.weight)

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        on = alive.to(a.device)
        some = on.any(1)
        c = concentration(a[:, : alive.shape[1]]).masked_fill(~on, 1)  # at 1 every term of a dead candidate is 0
        s = c.masked_fill(~on, 0).sum(1).masked_fill(~some, 1)
        pulls = ((c - 1) * (c.digamma() - s.digamma()[:, None])).sum(1)
        kl = s.lgamma() - c.lgamma().sum(1) - on.sum(1).clamp_min(1).to(a.dtype).lgamma() + pulls
        return self.weight * kl.sum()


@component
@dataclass(frozen=True)
class Cost(Penalty):
    """Expected cost of the mixture (SNAS, 1812.09926): weight · Σ over edges and candidates of w[e, o] · costs[o].

    Raises `OcheError` if there is not one finite cost for each candidate.
    """

    costs: tuple[float, ...]
    """cost of each candidate, in the order of the space's candidates: parameters, FLOPs, milliseconds …"""
    weight: float = 1e-5
    """strength, in units of loss per unit of cost"""

    def __post_init__(self) -> None:
        _check_weight("Cost", self.weight)
        if not self.costs or not all(-inf < c < inf for c in self.costs):
            raise OcheError(f"costs={self.costs} must be finite numbers; write one for each candidate")

    def check_space(self, space: Space) -> None:
        self._check_count(len(space.candidates))

    def _check_count(self, candidates: int) -> None:
        if len(self.costs) != candidates:
            raise OcheError(
                f"costs has {len(self.costs)} numbers, but the space {candidates} candidates; write one for each"
            )

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        self._check_count(mix.ops.shape[1])
        return self.weight * (mix.ops @ _prices(self.costs, mix.ops.dtype, mix.ops.device)).sum()


@lru_cache(maxsize=64)
def _prices(costs: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the costs as a tensor (O,) on ``device``. Cached, so that they are sent there once and not every step."""
    return torch.tensor(costs, dtype=dtype, device=device)


def _check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < inf:
        raise OcheError(f"{name}: weight={weight} must be a finite number that is not negative; use weight >= 0")
