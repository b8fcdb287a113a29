"""The edges of a supernet: the mixed operation of DARTS, and the interface of its variants in `oche.spaces.edge_variants`.

An `EdgeBuilder` is a value that configurations name. Called as ``builder(space, channels, stride)`` it builds the module of one
edge, an `Edge`. That module maps x (B, C, H, W), the weights (O,) and the candidates to evaluate to the output
(B, C, H / stride, W / stride), or to None if nothing flows.

Schedules of an edge are functions of ``progress`` and draws are functions of ``seed``. `set_step` sets both before a step, so
a forward pass is a deterministic function, and all evaluations of one step share their draws.

Shapes: O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oche.core.architecture import Shape
from oche.core.registry import component
from oche.core.seeds import derive_seed
from oche.networks.modules import iter_modules
from oche.networks.operations import Zero
from oche.spaces.base import Space

# --- the interface ----------------------------------------------------------------------------------------------------


class Edge(nn.Module):
    """The module of one edge. With ``seed=None`` it draws nothing; decisions and evaluations use the network so."""

    progress: float = 0.0  #: progress of the search, in [0, 1]
    seed: int | None = None
    rank: int = 0  #: the number of this process

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...]) -> Tensor | None:
        """Return the output (B, c_out, H / stride, W / stride) for x (B, c_in, H, W), or None if nothing flows.

        ``weights`` (O,): the weight of each candidate. ``active``: the indices of the candidates to evaluate.
        """
        raise NotImplementedError

    def uniform(self, shape: Sequence[int], device: torch.device | str, own: bool = False) -> Tensor:
        """Draw uniform numbers in [0, 1) of ``shape`` on ``device``. Every call with the same seed draws the same numbers.

        All processes draw the same, except with ``own=True``, for draws that belong to the images of this process.
        """
        assert self.seed is not None
        seed = derive_seed(self.seed, "rank", self.rank) if own and self.rank else self.seed
        return torch.rand(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def set_step(net: nn.Module, progress: float, seed: int | None, rank: int = 0) -> None:
    """Set progress, seed and process number of every edge of ``net``. Each edge gets a seed of its own.

    Give a seed for each step that trains weights, such as ``derive_seed(seed, "edges", step)``, and None before an evaluation.
    """
    for i, edge in enumerate(m for m in iter_modules(net) if isinstance(m, Edge)):
        edge.progress, edge.rank = progress, rank
        edge.seed = None if seed is None else derive_seed(seed, i)


@dataclass(frozen=True)
class EdgeBuilder:
    """Builds the edges of a supernet."""

    def __call__(self, space: Space, shape: Shape) -> Edge:
        """Build one edge of ``shape`` with the candidates of ``space``."""
        raise NotImplementedError

    def check(self, space: Space) -> None:
        """Raise `OcheError` if this builder cannot build the edges of ``space``. Builds nothing."""


# --- the mixed operation of DARTS -------------------------------------------------------------------------------------


class MixedOperation(Edge):
    """The sum over the active candidates of weight × candidate(x) (1806.09055 eq. 2).

    "none" is not evaluated, because adding zeros takes time. If nothing else is active, the result is None.
    """

    def __init__(self, space: Space, shape: Shape) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(space.candidate(name, shape) for name in space.candidates)

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...]) -> Tensor | None:
        weight_of = weights.unbind()
        total = None
        for o in self.paths(active):
            if isinstance(self.candidates[o], Zero):
                continue
            # A bfloat16 map takes the dtype of the weight here. Otherwise torch would round the weight to bfloat16, where
            # 0.1999 and 0.2005 are the same number.
            term = weight_of[o] * self.evaluate(o, x).to(weight_of[o].dtype)
            total = term if total is None else total + term
        return total

    def paths(self, active: tuple[int, ...]) -> tuple[int, ...]:
        """Return the candidates that this step evaluates: some or all of ``active``."""
        return active

    def evaluate(self, o: int, x: Tensor) -> Tensor:
        """Return the output of candidate ``o`` for x."""
        return self.candidates[o](x)


@component
@dataclass(frozen=True)
class MixedEdge(EdgeBuilder):
    """DARTS' mixed operation (1806.09055 eq. 2)."""

    def __call__(self, space: Space, shape: Shape) -> MixedOperation:
        return MixedOperation(space, shape)
