"""The edges that leave a node, on the Triton kernels: recognised candidates, and the work that edges share.

Shapes: J edges that leave a node, S candidates of each, B images, H × W pixels, C channels; maps are rows of
channels, (1 or J, B, H, W, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.kernels.op_terms import Pool, Skip, Stage, parse_operation
from oche.kernels.shared import CachedMap
from oche.kernels.triton.autograd import Normalisation, Separable, WeightedSum, sum_kernels
from oche.networks.operations import Pointwise
from oche.spaces.mixed_ops import MixedOperation


class KnownCandidate(NamedTuple):
    """Candidate ``o`` of an edge, and the operation that was recognised in it."""

    o: int
    piece: tuple[Stage, ...] | Pool | Skip

    @property
    def norms(self) -> list[nn.BatchNorm2d]:
        """Its BatchNorms."""
        if isinstance(self.piece, tuple):
            return [stage.norm for stage in self.piece]
        return [self.piece.norm] if isinstance(self.piece, Pool) and self.piece.norm is not None else []

    @property
    def signature(self) -> tuple[Any, ...]:
        """What edges must have in common to be computed together."""
        piece = self.piece
        if isinstance(piece, tuple):
            return "stages", tuple(
                (s.depthwise is None, s.kernel, s.dilation, s.stride, s.norm.affine, s.norm.eps) for s in piece
            )
        if isinstance(piece, Pool):
            return "pool", piece.largest, piece.stride, piece.norm and (piece.norm.affine, piece.norm.eps)
        return ("skip",)


def known_candidates(edge: MixedOperation, active: tuple[int, ...]) -> list[KnownCandidate]:
    """Return the recognised candidates among ``active``, convolutions first, sorted by kind."""
    found = []
    for o in active:
        piece = parse_operation(edge.candidates[o])
        # A dense convolution is recognised only as a single stage. Of several stages, all must be separable.
        if piece is None or (isinstance(piece, tuple) and len(piece) > 1 and any(s.depthwise is None for s in piece)):
            continue
        if all(n.training and n.momentum is not None for n in KnownCandidate(o, piece).norms):
            found.append(KnownCandidate(o, piece))
    return sorted(found, key=lambda k: repr(k.signature), reverse=True)


@dataclass
class Source:
    """A node whose edges are being computed: its map, everything computed from it, and running statistics to update."""

    state: CachedMap
    moved: list[tuple[nn.BatchNorm2d, Tensor, Tensor, int]] = field(default_factory=list)

    @property
    def x(self) -> Tensor:
        """The map as rows of channels (1, B, H, W, C)."""
        return self.state.cached("rows", rows_of)

    def edge_sums(
        self, edges: Sequence[MixedOperation], known: Sequence[Sequence[KnownCandidate]], w: Tensor
    ) -> Tensor:
        """Return the outputs (J, B, H', W', C) of edges with equal signatures; w (J, S) are the weights."""
        first = known[0]
        maps = self.stages([[k.piece for k in row if isinstance(k.piece, tuple)] for row in known])
        flat: list[Any] = []
        for s, k in enumerate(first):
            z = maps[s] if s < len(maps) else self.shared(edges[0].candidates[k.o], k.piece)
            norms = [row[s].norms[-1] for row in known] if k.norms else []
            flat += [z, *(self.normal(z, norms) if norms else Normalisation())]
        return WeightedSum.apply(w, *flat)

    def shared(self, module: nn.Module, piece: Any) -> Tensor:
        """Return the map itself or a pool of it, (1, B, H', W', C)."""
        if isinstance(piece, Skip):
            return self.x
        pool: Any = module if piece.norm is None else module[0]  # pyright: ignore[reportIndexIssue]
        return self.state.cached((piece.largest, piece.stride), lambda x: rows_of(pool(x)))

    def stages(self, rows: list[list[tuple[Stage, ...]]]) -> list[Tensor]:
        """Return the maps (J, B, H', W', C) after the last stage of every candidate, before the last normalisation."""
        columns = [*zip(*rows, strict=True)]
        separable = [column for column in columns if column[0][0].depthwise is not None]
        firsts = zip(*([stages[0] for stages in column] for column in separable), strict=True)
        begun = iter(_separable_stage(self.x, [*firsts], Normalisation()) if separable else ())
        maps = []
        for column in columns:
            dense = column[0][0].depthwise is None
            z = _dense_convolution(self.state, [stages[0] for stages in column]) if dense else next(begun)
            for before, after in zip(range(len(column[0])), range(1, len(column[0])), strict=False):
                normal = self.normal(z, [stages[before].norm for stages in column])
                (z,) = _separable_stage(z, [[stages[after]] for stages in column], normal)
            maps.append(z)
        return maps

    def normal(self, z: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Normalisation:
        """Return the `Normalisation` of z (1 or J, B, H, W, C) by ``norms``, one per edge, and note the running
        statistics to update.
        """
        F._verify_batch_size([z.shape[1], z.shape[-1], *z.shape[2:4]])  # pyright: ignore  # as a BatchNorm refuses it
        mean, var = sum_kernels.moments(z.detach())
        for j, norm in enumerate(norms):
            if norm.track_running_stats and norm.running_mean is not None:
                j = min(j, len(z) - 1)
                self.moved.append((norm, mean[j], var[j], z[0, ..., 0].numel()))
        learnt = []
        if norms[0].affine:
            learnt = [
                torch.stack([p for p in column]) for column in zip(*((n.weight, n.bias) for n in norms), strict=True)
            ]
        return Normalisation(mean, (var + norms[0].eps).rsqrt(), *learnt)


def rows_of(x: Tensor) -> Tensor:
    """View (B, C, H, W) as (1, B, H, W, C); no copy if it is channels_last."""
    return x.permute(0, 2, 3, 1).contiguous()[None]


def _separable_stage(x: Tensor, rows: Sequence[Sequence[Stage]], normal: Normalisation) -> tuple[Tensor, ...]:
    wide = sum_kernels.width(x.dtype)
    parts = [[s.depthwise.weight.flatten(1).t() for s in row] for row in rows]  # pyright: ignore[reportOptionalMemberAccess]
    w = torch.stack([torch.cat(row) for row in parts]).to(wide).contiguous()
    dense = [torch.stack([s.dense[0].weight.flatten(1) for s in column]) for column in zip(*rows, strict=True)]
    kinds = tuple((s.kernel, s.dilation) for s in rows[0])
    return Separable.apply(kinds, rows[0][0].stride, x, w, *normal, *dense)


def _dense_convolution(source: CachedMap, column: Sequence[Stage]) -> Tensor:
    """Return the outputs (J, B, H', W', C) of the dense convolutions of ``column``, one stage per edge.

    One convolution computes all of them; factorised reductions need two.
    """
    x, halves = source.relu(), []
    for i, conv in enumerate(column[0].dense):
        at = (
            x.subsampled(conv.stride_by_slicing, i) if isinstance(conv, Pointwise) and conv.stride_by_slicing > 1 else x
        )
        w = torch.cat([stage.dense[i].weight for stage in column]).to(at.map.dtype)
        y = F.conv2d(at.map, w, None, conv.stride, conv.padding, conv.dilation)
        halves.append(y.permute(0, 2, 3, 1).unflatten(-1, (len(column), -1)))
    return torch.cat(halves, -1).permute(3, 0, 1, 2, 4).contiguous()


def move_statistics(moved: Sequence[tuple[nn.BatchNorm2d, Tensor, Tensor, int]]) -> None:
    """Update the running statistics of all BatchNorms in ``moved``, in a few launches."""
    lists: Any = torch  # operations on lists are in no public module
    with torch.no_grad():
        for momentum, group in groupby(sorted(moved, key=lambda m: m[0].momentum or 0.0), lambda m: m[0].momentum):
            norms, means, variances, counts = zip(*group, strict=True)
            unbiased = [v * (n / (n - 1)) for v, n in zip(variances, counts, strict=True)]
            for name, values in (("running_mean", means), ("running_var", unbiased)):
                buffers = [getattr(norm, name) for norm in norms]
                lists._foreach_lerp_(buffers, [v.to(b.dtype) for v, b in zip(values, buffers, strict=True)], momentum)
            lists._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
