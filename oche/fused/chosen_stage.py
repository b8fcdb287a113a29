"""One stage of all edges of a cell at once: (1) of `oche.fused.chosen`, up to its BatchNorm and with it.

Shapes: J edges, O candidates, B images, C channels, H × W pixels; maps of J edges are one map (B, J·C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .chosen_ops import Choice, Lane, Part, Place, Statistics, affine, convolve, lane, normalise, shifted
from .terms import Stage

Row = tuple[int, int, Stage]  # of candidate o of edge j


class Column:
    """Stage t of every candidate that has one: ``rows``. ``last``: those that end with it."""

    def __init__(self, rows: Sequence[Row], last: Sequence[Place], choice: Choice) -> None:
        self.rows, self.last = rows, last
        separable = [(j, o, s) for j, o, s in rows if s.depthwise is not None]
        dense = [(j, o, s) for j, o, s in rows if s.depthwise is None and len(s.dense) == 1]
        halves = [(j, o, s) for j, o, s in rows if len(s.dense) == 2]
        self.depthwise = lane([Part((j, o), s.conv.weight, s.dilation) for j, o, s in separable], choice)
        self.pointwise = lane([Part((j, o), s.dense[0].weight) for j, o, s in separable], choice)
        self.dense = lane([Part((j, o), s.conv.weight, s.dilation) for j, o, s in dense], choice)
        self.even, self.odd = (lane([Part((j, o), s.dense[i].weight) for j, o, s in halves], choice) for i in (0, 1))
        self.affine = affine({(j, o): s.norm for j, o, s in rows}, choice)
        self.eps = rows[0][2].norm.eps

    def within(self, start: int, stop: int) -> bool:
        """Whether any candidate of these edges has such a stage."""
        return any(start <= j < stop for j, *_ in self.rows)

    def convolve(self, x: Tensor, start: int, stop: int, stride: int) -> Tensor:
        """x (B, J·C, H, W), behind the ReLU, of edges ``start`` to ``stop``, as it is before the BatchNorm."""

        def of(found: Lane | None) -> Tensor | None:
            return None if found is None else found.of(start, stop)

        outs = []
        if (k := of(self.depthwise)) is not None and (p := of(self.pointwise)) is not None:
            outs.append(convolve(convolve(x, k, stride), p))
        if (d := of(self.dense)) is not None:
            outs.append(convolve(x, d, stride))
        if (even := of(self.even)) is not None and (odd := of(self.odd)) is not None:
            above, below = odd.shape[1], even.shape[1]  # how many channels the other one has
            outs.append(convolve(x, F.pad(even, (0,) * 6 + (0, above)), 2))
            outs.append(convolve(shifted(x), F.pad(odd, (0,) * 6 + (below, 0))))
        return total(outs)

    def normalise(self, p: Tensor, start: int, stop: int, v: Tensor | None) -> tuple[Tensor, Statistics]:
        """p (B, J·C, H, W) behind the BatchNorm, times ``v`` (J, 1) if given, and what that saw."""
        scale, shift = (None, None) if self.affine is None else (t[start:stop] for t in self.affine)
        edges = stop - start
        if v is not None:
            c = p.shape[1] // edges
            scale = v.expand(-1, c) if scale is None else v * scale
            shift = None if shift is None else v * shift
        return normalise(p, self.eps, scale, shift, edges)


def total(maps: Sequence[Tensor]) -> Tensor:
    """The sum of at least one map."""
    out = maps[0]
    for other in maps[1:]:
        out = out + other
    return out
