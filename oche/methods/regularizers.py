"""Penalties on the architecture, added to the upper loss only; their weight included.

Shapes: E edges of a cell, O candidates; logits a (E, O) or wider (what follows the O-th column are edge logits, which no
penalty here looks at), mask alive (E, O). Dead candidates contribute exactly 0 and get no gradient.
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
    """A differentiable function of logits, mask and mixture. ``p + q`` penalises by both.

    ``of``: the relaxation whose weights it is about; None: any.
    """

    of: ClassVar[type[Relaxation] | None] = None

    def check(self, relax: Relaxation) -> None:
        """Raises `OcheError` where this says nothing about the weights of ``relax``."""
        if self.of is not None and not isinstance(relax.by_candidate, self.of):
            raise OcheError(
                f"{type(self).__name__} is about the weights of {self.of.__name__}, not of {type(relax.by_candidate).__name__}; "
                f"use relax={self.of.__name__}(), or another penalty"
            )

    def check_space(self, space: Space) -> None:
        """Raises `OcheError` where this does not fit ``space``."""

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        """() the penalty of one group of edges."""
        raise NotImplementedError

    def over(self, groups: Iterable[Group], progress: float) -> Tensor:
        """() the penalty of all groups of edges: what is added to the upper loss."""
        return torch.stack([self(*group, progress) for group in groups]).sum()

    def __add__(self, other: Penalty) -> Sum:
        return Sum((*parts(self), *parts(other)))


def parts(penalty: Penalty | None) -> tuple[Penalty, ...]:
    """The penalties that are added up."""
    if penalty is None:
        return ()
    return penalty.parts if isinstance(penalty, Sum) else (penalty,)


@component
@dataclass(frozen=True)
class Sum(Penalty):
    """Several penalties at once."""

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
class Averaged(Penalty):
    """Base of penalties that are a weight times a mean of terms, over the terms of all groups alike."""

    def rate(self, progress: float) -> float:
        raise NotImplementedError

    def terms(self, a: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """(any shape) the terms, dead ones too, all finite; (same shape) which of them live."""
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
class ZeroOne(Averaged):
    """FairDARTS' zero-one loss (1911.12126): −weight · mean of (sigmoid(a) − 1/2)², which pushes every weight to 0 or 1.

    The mean is over the living logits of all groups together, as the released code concatenates them.
    """

    of = Sigmoid

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
class BetaDecay(Averaged):
    """β-DARTS (2203.01665): weight · mean over edges of log sum over living o of exp(a[e, o]).

    Its gradient by a is weight · softmax(a) / edges, a decay that is stronger where the mixture is. The weight grows by 0.5 an
    epoch in the released code: to 25 over the 50 epochs of the DARTS space, to 50 over the 100 of NAS-Bench-201.
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
    """DrNAS (2006.10355): weight · sum over edges of KL(Dirichlet(elu(a[e]) + 1) ‖ Dirichlet(1)), living candidates only.

    With c the concentrations of an edge's K living candidates and s their sum::

        KL = log Γ(s) − Σ log Γ(c) − log Γ(K) + Σ (c − 1)(ψ(c) − ψ(s))

    Deviation 1: the released code goes on counting the candidates that its progressive stages dropped.
    """

    of = Dirichlet

    weight: float = 1e-3
    """strength; published: 1e-3 (then without weight decay of the logits)"""

    def __post_init__(self) -> None:
        _check_weight("DirichletKL", self.weight)

    def __call__(self, a: Tensor, alive: Tensor, mix: Mix, progress: float) -> Tensor:
        on = alive.to(a.device)
        some = on.any(1)
        c = concentration(a[:, : alive.shape[1]]).masked_fill(~on, 1)  # 1: no term of its own
        s = c.masked_fill(~on, 0).sum(1).masked_fill(~some, 1)
        pulls = ((c - 1) * (c.digamma() - s.digamma()[:, None])).sum(1)
        kl = s.lgamma() - c.lgamma().sum(1) - on.sum(1).clamp_min(1).to(a.dtype).lgamma() + pulls
        return self.weight * kl.sum()


@component
@dataclass(frozen=True)
class Cost(Penalty):
    """Expected cost of the mixture (SNAS, 1812.09926): weight · sum over edges and candidates of w[e, o] · costs[o]."""

    costs: tuple[float, ...]
    """cost of each candidate, in the order of the space's candidates: parameters, FLOPs, milliseconds …"""
    weight: float = 1e-5
    """strength, in units of loss per unit of cost"""

    def __post_init__(self) -> None:
        _check_weight("Cost", self.weight)
        if not self.costs or not all(-inf < c < inf for c in self.costs):
            raise OcheError(f"costs={self.costs} is no price list; write one finite number for each candidate")

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
    """(O,) on the device: sent there once, not every step."""
    return torch.tensor(costs, dtype=dtype, device=device)


def _check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < inf:
        raise OcheError(f"{name}: weight={weight} is no strength; use weight >= 0")
