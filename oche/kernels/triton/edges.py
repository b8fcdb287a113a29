"""What leaves a node of a cell on the Triton kernels: candidates that are recognised, and what edges share.

Shapes: J edges that leave a node, S candidates of each, B images, H × W pixels, C channels; maps are rows of channels,
(1 or J, B, H, W, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.kernels.op_terms import Pool, Skip, Stage, pieces
from oche.kernels.shared import Shared
from oche.kernels.triton.autograd import Normal, Separable, Weigh, kernels
from oche.networks.operations import Pointwise
from oche.spaces.mixed_ops import MixedOperation


class Known(NamedTuple):
    """One recognised candidate ``o`` of an edge."""

    o: int
    piece: tuple[Stage, ...] | Pool | Skip

    @property
    def norms(self) -> list[nn.BatchNorm2d]:
        if isinstance(self.piece, tuple):
            return [stage.norm for stage in self.piece]
        return [self.piece.norm] if isinstance(self.piece, Pool) and self.piece.norm is not None else []

    @property
    def sort(self) -> tuple[Any, ...]:
        """What edges must have in common to be computed together."""
        piece = self.piece
        if isinstance(piece, tuple):
            return "stages", tuple(
                (s.depthwise is None, s.kernel, s.dilation, s.stride, s.norm.affine, s.norm.eps) for s in piece
            )
        if isinstance(piece, Pool):
            return "pool", piece.largest, piece.stride, piece.norm and (piece.norm.affine, piece.norm.eps)
        return ("skip",)


def known_of(edge: MixedOperation, active: tuple[int, ...]) -> list[Known]:
    """The recognised ones among the ``active`` candidates, convolutions first, by kind."""
    found = []
    for o in active:
        piece = pieces(edge.candidates[o])
        # Dense convolutions are known alone: of several stages behind each other all must be separable.
        if piece is None or (isinstance(piece, tuple) and len(piece) > 1 and any(s.depthwise is None for s in piece)):
            continue
        if all(n.training and n.momentum is not None for n in Known(o, piece).norms):
            found.append(Known(o, piece))
    return sorted(found, key=lambda k: repr(k.sort), reverse=True)


@dataclass
class Source:
    """A node while its edges are computed: the map itself, what is made of it once, and running statistics still to be moved."""

    state: Shared
    moved: list[tuple[nn.BatchNorm2d, Tensor, Tensor, int]] = field(default_factory=list)

    @property
    def x(self) -> Tensor:
        return self.state.once("rows", rows_of)

    def carried(self, edges: Sequence[MixedOperation], known: Sequence[Sequence[Known]], w: Tensor) -> Tensor:
        """(J, B, H', W', C) of edges whose candidates are alike, their weights w (J, S)."""
        first = known[0]
        maps = self.stages([[k.piece for k in row if isinstance(k.piece, tuple)] for row in known])
        flat: list[Any] = []
        for s, k in enumerate(first):
            z = maps[s] if s < len(maps) else self.shared(edges[0].candidates[k.o], k.piece)
            norms = [row[s].norms[-1] for row in known] if k.norms else []
            flat += [z, *(self.normal(z, norms) if norms else Normal())]
        return Weigh.apply(w, *flat)

    def shared(self, module: nn.Module, piece: Any) -> Tensor:
        """(1, B, H', W', C): the map itself, or a pool of it."""
        if isinstance(piece, Skip):
            return self.x
        pool: Any = module if piece.norm is None else module[0]  # pyright: ignore[reportIndexIssue]
        return self.state.once((piece.largest, piece.stride), lambda x: rows_of(pool(x)))

    def stages(self, rows: list[list[tuple[Stage, ...]]]) -> list[Tensor]:
        """The map (J, B, H', W', C) behind the last stage of every candidate, before its last normalisation."""
        columns = [*zip(*rows, strict=True)]
        separable = [column for column in columns if column[0][0].depthwise is not None]
        firsts = zip(*([stages[0] for stages in column] for column in separable), strict=True)
        begun = iter(_separable(self.x, [*firsts], Normal()) if separable else ())
        maps = []
        for column in columns:
            dense = column[0][0].depthwise is None
            z = _convolved(self.state, [stages[0] for stages in column]) if dense else next(begun)
            for before, after in zip(range(len(column[0])), range(1, len(column[0])), strict=False):
                normal = self.normal(z, [stages[before].norm for stages in column])
                (z,) = _separable(z, [[stages[after]] for stages in column], normal)
            maps.append(z)
        return maps

    def normal(self, z: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Normal:
        """That of z (1 or J, B, H, W, C) by ``norms``, one an edge; remembers to move their running statistics."""
        F._verify_batch_size([z.shape[1], z.shape[-1], *z.shape[2:4]])  # pyright: ignore  # as a BatchNorm refuses it
        mean, var = kernels.moments(z.detach())
        for j, norm in enumerate(norms):
            if norm.track_running_stats and norm.running_mean is not None:
                j = min(j, len(z) - 1)
                self.moved.append((norm, mean[j], var[j], z[0, ..., 0].numel()))
        learnt = []
        if norms[0].affine:
            learnt = [
                torch.stack([p for p in column]) for column in zip(*((n.weight, n.bias) for n in norms), strict=True)
            ]
        return Normal(mean, (var + norms[0].eps).rsqrt(), *learnt)


def rows_of(x: Tensor) -> Tensor:
    """(1, B, H, W, C), without a copy where (B, C, H, W) is channels_last."""
    return x.permute(0, 2, 3, 1).contiguous()[None]


def _separable(x: Tensor, rows: Sequence[Sequence[Stage]], normal: Normal) -> tuple[Tensor, ...]:
    wide = kernels.width(x.dtype)
    parts = [[s.depthwise.weight.flatten(1).t() for s in row] for row in rows]  # pyright: ignore[reportOptionalMemberAccess]
    w = torch.stack([torch.cat(row) for row in parts]).to(wide).contiguous()
    dense = [torch.stack([s.dense[0].weight.flatten(1) for s in column]) for column in zip(*rows, strict=True)]
    kinds = tuple((s.kernel, s.dilation) for s in rows[0])
    return Separable.apply(kinds, rows[0][0].stride, x, w, *normal, *dense)


def _convolved(source: Shared, column: Sequence[Stage]) -> Tensor:
    """(J, B, H', W', C) behind the dense convolutions of ``column``, one stage an edge: by one convolution for all of them, two
    for factorised reductions."""
    x, halves = source.relu(), []
    for i, conv in enumerate(column[0].dense):
        at = x.every(conv.each, i) if isinstance(conv, Pointwise) and conv.each > 1 else x
        w = torch.cat([stage.dense[i].weight for stage in column]).to(at.map.dtype)
        y = F.conv2d(at.map, w, None, conv.stride, conv.padding, conv.dilation)
        halves.append(y.permute(0, 2, 3, 1).unflatten(-1, (len(column), -1)))
    return torch.cat(halves, -1).permute(3, 0, 1, 2, 4).contiguous()


def move_statistics(moved: Sequence[tuple[nn.BatchNorm2d, Tensor, Tensor, int]]) -> None:
    """Running statistics of all of them, in a few launches."""
    lists: Any = torch  # operations on lists are in no public module
    with torch.no_grad():
        for momentum, group in groupby(sorted(moved, key=lambda m: m[0].momentum or 0.0), lambda m: m[0].momentum):
            norms, means, variances, counts = zip(*group, strict=True)
            unbiased = [v * (n / (n - 1)) for v, n in zip(variances, counts, strict=True)]
            for name, values in (("running_mean", means), ("running_var", unbiased)):
                buffers = [getattr(norm, name) for norm in norms]
                lists._foreach_lerp_(buffers, [v.to(b.dtype) for v, b in zip(values, buffers, strict=True)], momentum)
            lists._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
