"""One stage of all edges of a cell at once: (1) of `oche.kernels.single_path.cell`, up to its BatchNorm and with it.

Shapes: J edges, O candidates, B images, C channels, H × W pixels; maps of J edges are one map (B, J·C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch.nn.functional as F
from torch import Tensor

from oche.kernels.op_terms import Stage
from oche.kernels.single_path.ops import Choice, Part, Place, Statistics, affine, convolve, lane, normalise, shifted

Row = tuple[int, int, Stage]  # of candidate o of edge j


class Column:
    """Stage t of every candidate that has one: ``rows``; for batches of ``sizes`` edges. ``last``: those that end with it."""

    def __init__(self, rows: Sequence[Row], last: Sequence[Place], choice: Choice, sizes: Sequence[int]) -> None:
        self.rows, self.last, self.eps = rows, last, rows[0][2].norm.eps
        self.ends = [*accumulate(sizes)]
        separable = [(j, o, s) for j, o, s in rows if s.depthwise is not None]
        dense = [(j, o, s) for j, o, s in rows if s.depthwise is None and len(s.dense) == 1]
        halves = [(j, o, s) for j, o, s in rows if len(s.dense) == 2]
        self.depthwise = lane([Part((j, o), s.conv.weight, s.dilation) for j, o, s in separable], choice, sizes)
        self.pointwise = lane([Part((j, o), s.dense[0].weight) for j, o, s in separable], choice, sizes)
        self.dense = lane([Part((j, o), s.conv.weight, s.dilation) for j, o, s in dense], choice, sizes)
        self.even, self.odd = (
            lane([Part((j, o), s.dense[i].weight) for j, o, s in halves], choice, sizes) for i in (0, 1)
        )
        learnt = affine({(j, o): s.norm for j, o, s in rows}, choice)
        self.affine = None if learnt is None else [*zip(*(t.split(list(sizes)) for t in learnt), strict=True)]

    def of(self, i: int) -> list[Row]:
        """The stages of the edges of batch ``i``."""
        start = self.ends[i - 1] if i else 0
        return [row for row in self.rows if start <= row[0] < self.ends[i]]

    def convolve(self, x: Tensor, i: int, stride: int) -> Tensor:
        """x (B, J·C, H, W) of batch ``i``, behind the ReLU, as it is before the BatchNorm."""
        outs = []
        if (k := self.depthwise[i]) is not None and (p := self.pointwise[i]) is not None:
            outs.append(convolve(convolve(x, k, stride), p))
        if (d := self.dense[i]) is not None:
            outs.append(convolve(x, d, stride))
        if (even := self.even[i]) is not None and (odd := self.odd[i]) is not None:
            above, below = odd.shape[1], even.shape[1]  # how many channels the other one has
            outs.append(convolve(x, F.pad(even, (0,) * 6 + (0, above)), 2))
            outs.append(convolve(shifted(x), F.pad(odd, (0,) * 6 + (below, 0))))
        return total(outs)

    def normalise(self, p: Tensor, i: int, edges: int, v: Tensor | None) -> tuple[Tensor, Statistics]:
        """p (B, J·C, H, W) of batch ``i`` of ``edges`` behind the BatchNorm, times ``v`` (J, 1) if given, and what that saw."""
        scale, shift = (None, None) if self.affine is None else self.affine[i]
        if v is not None:
            scale = v.expand(-1, p.shape[1] // edges) if scale is None else v * scale
            shift = None if shift is None else v * shift
        return normalise(p, self.eps, scale, shift, edges)


def total(maps: Sequence[Tensor]) -> Tensor:
    """The sum of at least one map."""
    out = maps[0]
    for other in maps[1:]:
        out = out + other
    return out
