"""Published variants of the mixed operation: PC-DARTS, DARTS-, P-DARTS and one-shot search.

Each variant is a builder, a value that configurations name, and the module that it builds; see `oche.spaces.mixed_ops`.

Shapes: O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf

import torch
from torch import Tensor, nn

from oche.core.architecture import Shape
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.core.schedules import Ends, check_ends, linear
from oche.networks.operations import FactorizedReduce, Zero
from oche.spaces.base import Space
from oche.spaces.mixed_ops import Edge, EdgeBuilder, MixedEdge, MixedOperation

SKIP = "skip_connect"


def _check_skip(space: Space, why: str) -> None:
    """Raise `OcheError`, beginning with ``why``, if skip_connect is not a candidate of ``space``."""
    if SKIP not in space.candidates:
        raise OcheError(f"{why} {SKIP!r}, which is not among candidates={space.candidates}; add it")


# --- PC-DARTS ---------------------------------------------------------------------------------------------------------


class PartialOperation(Edge):
    """The first C / k channels go through ``inner``, the others bypass it; then the channels are shuffled in k groups."""

    def __init__(self, inner: Edge, channels: int, k: int, stride: int) -> None:
        super().__init__()
        self.inner, self.k, self.stride, self.split = inner, k, stride, [channels // k, channels - channels // k]
        # An odd side keeps its last pixel. (Deviation 1 from the released code, which fails there.)
        self.bypass = nn.Identity() if stride == 1 else nn.MaxPool2d(2, 2, ceil_mode=True)

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...]) -> Tensor:
        mixed, rest = x.split(self.split, 1)
        out = self.inner(mixed, weights, active)
        if out is None:
            out = torch.zeros_like(mixed[:, :, :: self.stride, :: self.stride])
        if self.k == 1:  # no channels bypass it, and pooling refuses an empty map
            return out
        return torch.cat([out, self.bypass(rest)], 1).unflatten(1, (self.k, -1)).transpose(1, 2).flatten(1, 2)


@component
@dataclass(frozen=True)
class PartialEdge(EdgeBuilder):
    """PC-DARTS' partial channel connection (1907.05737 §3.2).

    1/k of the channels pass through the mixed operation and the others bypass it, by a 2 × 2 max-pool where the map
    shrinks. Then the channels are shuffled (released code). The edge normalisation of the paper belongs to the
    relaxation: `Mix.edges` scales the bypassed channels too.

    Raises `OcheError` if k does not divide the channels of every cell.
    """

    k: int = 4
    """one channel in k passes through the mixed operation"""
    of: EdgeBuilder = MixedEdge()
    """operations that the selected channels pass through"""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise OcheError(f"k={self.k} is not a share of the channels; use k >= 1, published: 4")

    def __call__(self, space: Space, shape: Shape) -> PartialOperation:
        channels, stride = shape.c_in, shape.stride
        if channels % self.k:
            raise OcheError(self._refusal(channels, "an edge"))
        return PartialOperation(self.of(space, Shape.same(channels // self.k, stride)), channels, self.k, stride)

    def check(self, space: Space) -> None:
        for place, shape in space.edge_shapes:
            if shape.c_in != shape.c_out:
                raise OcheError(
                    f"partial channels: {place} goes from {shape.c_in} channels to {shape.c_out}, and channels that bypass an "
                    "operation keep their number; use edge=MixedEdge(), or another method"
                )
            if shape.c_in % self.k:
                raise OcheError(self._refusal(shape.c_in, place))
            if shape.stride > 1 and shape.c_in // self.k < 2:
                raise OcheError(
                    f"partial channels: k={self.k} leaves {place} one channel of {shape.c_in}, and halving a "
                    f"map takes two; use at least {2 * self.k} channels there, or a smaller k"
                )
        self.of.check(space)

    def _refusal(self, channels: int, where: str) -> str:
        """Return the message for a number of channels that k does not divide."""
        divisors = [str(k) for k in range(1, min(channels, 16) + 1) if channels % k == 0]
        return (
            f"partial channels: {where} has {channels} channels, which k={self.k} does not divide; use channels that are a "
            f"multiple of {self.k}, or k among {', '.join(divisors)}"
        )


# --- DARTS- -----------------------------------------------------------------------------------------------------------


class AuxiliaryOperation(Edge):
    """``inner`` plus beta · skip, where beta changes linearly with progress."""

    def __init__(self, inner: Edge, skip: nn.Module, beta: Ends) -> None:
        super().__init__()
        self.inner, self.skip, self.beta = inner, skip, beta

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...]) -> Tensor | None:
        out, beta = self.inner(x, weights, active), linear(self.beta, self.progress)
        if beta == 0:
            return out
        extra = beta * self.skip(x)
        return extra if out is None else out + extra


@component
@dataclass(frozen=True)
class AuxiliarySkip(EdgeBuilder):
    """DARTS-' auxiliary skip connection (2009.01027 §3).

    It runs beside every edge, scaled by beta, which fades out. It has no logit, so it is no part of the genotype. Where
    the map shrinks it is FactorizedReduce, as in the released code. An edge without a living candidate has no output, not
    even that of its auxiliary skip.

    Raises `OcheError` for a space without skip_connect.
    """

    beta: Ends = (1.0, 0.0)
    """weight of the auxiliary skip at the start and at the end, linear in between"""
    of: EdgeBuilder = MixedEdge()
    """the edge that it runs beside"""

    def __post_init__(self) -> None:
        check_ends("beta", self.beta, positive=False)

    def __call__(self, space: Space, shape: Shape) -> AuxiliaryOperation:
        inner = self.of(space, shape)
        skip = nn.Identity() if shape.stride == 1 else FactorizedReduce(shape.c_in, shape.c_out, space.affine)
        return AuxiliaryOperation(inner, skip, self.beta)

    def check(self, space: Space) -> None:
        _check_skip(space, "an auxiliary skip takes over from the candidate")
        self.of.check(space)


# --- P-DARTS ----------------------------------------------------------------------------------------------------------


class SkipDropoutOperation(MixedOperation):
    """A mixed operation with dropout after identities: single activations are dropped, the others scaled by 1 / (1 − rate)."""

    def __init__(self, space: Space, shape: Shape, builder: SkipDropout) -> None:
        super().__init__(space, shape)
        self.rate = builder.rate

    def evaluate(self, o: int, x: Tensor) -> Tensor:
        out, rate = self.candidates[o](x), self.rate(self.progress)
        if self.seed is None or rate == 0 or not self.training or not isinstance(self.candidates[o], nn.Identity):
            return out
        return out * (self.uniform(out.shape, out.device, own=True) >= rate).to(out.dtype) / (1 - rate)


@component
@dataclass(frozen=True)
class SkipDropout(EdgeBuilder):
    """P-DARTS' search space regularisation (1904.12760 §3.3): dropout after skip connections, strongest at the start of a stage.

    As in the released code it follows identities only, not the skip connections of stride 2. As there, the rate falls
    linearly while only weights train. Then it starts anew and falls exponentially, to start · exp(−0.2) after an epoch.

    Deviation 2: it moves every step, not once an epoch.
    """

    start: float = 0.0
    """rate at the start of the stage; published: 0, 0.4 and 0.7 in the three stages"""
    warmup: float = 0.4
    """share of the stage that trains weights only; published: 10 of 25 epochs"""
    decay: float = 5.0
    """speed of the exponential fall after the warm-up, per stage; published: 0.2 per epoch, 25 epochs"""

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise OcheError(f"start={self.start} is not a dropout rate; use 0 <= start < 1")
        if not (0 <= self.warmup <= 1 and 0 <= self.decay < inf):
            raise OcheError(f"warmup={self.warmup}, decay={self.decay}: use 0 <= warmup <= 1 and decay >= 0")

    def rate(self, progress: float) -> float:
        """Return the share of activations that are dropped at ``progress`` of the stage."""
        if progress < self.warmup:
            return self.start * (1 - progress)
        return self.start * exp(-self.decay * (progress - self.warmup))

    def __call__(self, space: Space, shape: Shape) -> SkipDropoutOperation:
        return SkipDropoutOperation(space, shape, self)

    def check(self, space: Space) -> None:
        _check_skip(space, "skip dropout needs the candidate")


# --- one-shot search --------------------------------------------------------------------------------------------------


class PathDropoutOperation(MixedOperation):
    """A mixed operation that drops random candidates in each step. Dropped candidates are not evaluated."""

    def __init__(self, space: Space, shape: Shape, builder: PathDropout) -> None:
        super().__init__(space, shape)
        self.rate = builder.rate

    def paths(self, active: tuple[int, ...]) -> tuple[int, ...]:
        if self.seed is None or not self.training:
            return active
        paths = [o for o in active if not isinstance(self.candidates[o], Zero)]
        rate = self.rate(self.progress, len(paths))
        draws = self.uniform([len(self.candidates)], "cpu").tolist()
        return tuple(o for o in paths if draws[o] >= rate)


@component
@dataclass(frozen=True)
class PathDropout(EdgeBuilder):
    """Path dropout of one-shot search (Bender et al., ICML 2018).

    Each candidate is dropped with probability progress · r^(1/n), so that at the end an edge of n candidates loses all of
    them with probability r. The remaining candidates are not rescaled.

    Deviation 3: n counts the candidates of the edge, not all paths into the node. Deviation 4: one draw in each step
    serves the whole batch; the paper draws for each of its ghost batches.
    """

    r: float = 0.01
    """probability that an edge loses all its candidates at the end"""

    def __post_init__(self) -> None:
        if not 0 <= self.r < 1:
            raise OcheError(f"r={self.r} is not a probability below 1; use 0 <= r < 1")

    def rate(self, progress: float, paths: int) -> float:
        """Return the probability with which each of ``paths`` candidates is dropped."""
        return progress * self.r ** (1 / paths) if paths else 0.0

    def __call__(self, space: Space, shape: Shape) -> PathDropoutOperation:
        return PathDropoutOperation(space, shape, self)
