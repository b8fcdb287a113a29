"""The operations of `oche.kernels.single_path.cell`: weights gathered by a choice on the device, and their use.

Shapes: J edges, O candidates, R rows of a bank of weights, B images, C channels, H × W pixels. The maps of J edges
are one map (B, J·C, H, W) in channels_last memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.kernels.batchnorm import NHWC
from oche.kernels.depthwise import depthwise
from oche.kernels.op_terms import Stage

Place = tuple[int, int]  # (edge j, candidate o)


@cache  # kept forever, because graphs read them at their addresses
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return ``values`` as a tensor on the device, copied there once. A graph replays no copies from the host."""
    with torch.inference_mode(False):  # so that autograd may save it
        return torch.tensor(values, device=device, dtype=dtype)


class Choice(NamedTuple):
    """The chosen candidate of each edge: ``index`` (J,) among O ``candidates``."""

    index: Tensor
    candidates: int

    def look_up(self, table: Mapping[Place, int]) -> Tensor:
        """Return (J,) the value of ``table`` for each choice, 0 if it has none."""
        rows = tuple(tuple(table.get((j, o), 0) for o in range(self.candidates)) for j in range(len(self.index)))
        return constant(rows, self.index.device).gather(1, self.index[:, None])[:, 0]

    def has(self, places: Iterable[Place]) -> Tensor:
        """Return (J,) 1 where the choice is one of ``places``, else 0."""
        return self.look_up(dict.fromkeys(places, 1))

    def is_(self, places: Sequence[Place]) -> Tensor:
        """Return (N,) bool: whether each of the N ``places`` is chosen."""
        edges, candidates = (constant(part, self.index.device) for part in zip(*places, strict=True))
        return self.index.index_select(0, edges) == candidates


ChosenWeights = list[Tensor | None]
"""The weights of one kind of convolution for each batch of edges: (J, C, M, k, k) those of the choice, which read M channels
each, zero where it has none; None where no candidate has any."""


@dataclass(frozen=True)
class CandidateWeight:
    """The weight (C, M, k, k) of candidate (j, o), with its taps ``dilation`` apart."""

    place: Place
    weight: Tensor
    dilation: int = 1


def gather_weights(parts: Sequence[CandidateWeight], choice: Choice, sizes: Sequence[int]) -> ChosenWeights:
    """Return the weights of the choice among ``parts``, for batches of ``sizes`` edges."""
    if not parts:
        return [None] * len(sizes)
    kinds: dict[tuple[int, int], list[CandidateWeight]] = {}
    for part in parts:
        kinds.setdefault((part.weight.shape[-1], part.dilation), []).append(part)
    size = max(d * (k - 1) + 1 for k, d in kinds)
    banks = [embed_kernels([p.weight for p in alike], d, size) for (_, d), alike in kinds.items()]
    order = [p.place for alike in kinds.values() for p in alike]
    ends, edges = [*accumulate(sizes)], {j for j, _ in order}
    has_weights = [any(end - size <= j < end for j in edges) for end, size in zip(ends, sizes, strict=True)]
    return [
        w if on else None
        for w, on in zip(_gather_rows(banks, order, choice).split(list(sizes)), has_weights, strict=True)
    ]


def embed_kernels(weights: Sequence[Tensor], dilation: int, size: int) -> Tensor:
    """Return kernels (R, C, M, size, size): the weights centred, with zeros around and between their taps."""
    bank = torch.stack(list(weights))
    k, middle = bank.shape[-1], size // 2
    if k == size:
        return bank
    taps = slice(middle - dilation * (k // 2), middle + dilation * (k // 2) + 1, dilation)
    wide = bank.new_zeros(*bank.shape[:3], size, size)
    wide[..., taps, taps] = bank
    return wide


def _gather_rows(banks: Sequence[Tensor], order: Sequence[Place], choice: Choice, otherwise: float = 0.0) -> Tensor:
    """Return (J, …) the chosen rows of the concatenated ``banks`` (R, …), whose rows belong to the places in ``order``.

    Edges whose choice has no row get ``otherwise``.
    """
    first = torch.full_like(banks[0][:1], otherwise)
    return torch.cat([first, *banks]).index_select(0, choice.look_up({place: i for i, place in enumerate(order, 1)}))


def gather_affine(norms: Mapping[Place, nn.BatchNorm2d], choice: Choice) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift (J, C) of the chosen candidates' BatchNorms, 1 and 0 if they have none; None if no
    candidate has any.
    """
    learnt = {place: norm for place, norm in norms.items() if norm.affine}
    if not learnt:
        return None
    scale, shift = (torch.stack([getattr(norm, name) for norm in learnt.values()]) for name in ("weight", "bias"))
    return _gather_rows([scale], [*learnt], choice, 1.0), _gather_rows([shift], [*learnt], choice)


def convolve(x: Tensor, weights: Tensor, stride: int = 1) -> Tensor:
    """Convolve x (B, J·C, H, W) by weights (J, C, M, k, k), each edge by its own. Returns (B, J·C, ⌈H / stride⌉, ⌈W /
    stride⌉).
    """
    k, flat, side = weights.shape[-1], weights.flatten(0, 1), max(x.shape[2:])
    if k >= 2 * side:  # the outer taps would only read padding
        cut = slice(k // 2 - side + 1, k // 2 + side)
        k, flat = 2 * side - 1, flat[..., cut, cut]
    if k == 1 and stride > 1:  # see `oche.networks.operations.Pointwise`
        x, stride = x[:, :, ::stride, ::stride].contiguous(memory_format=NHWC), 1
    groups = x.shape[1] // flat.shape[1]
    on_cpu = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if on_cpu and flat.shape[1] == 1 and k > 1 and x.shape[3] > 1:
        return depthwise(x, flat, stride)
    return F.conv2d(x, flat, None, stride, k // 2, 1, groups)


def odd_pixels(x: Tensor) -> Tensor:
    """Return (B, C, ⌈H / 2⌉, ⌈W / 2⌉): every second pixel of every second row, from the second on. Odd sides are
    padded by zeros.
    """
    h, w = x.shape[2:]
    return F.pad(x, (0, w % 2, 0, h % 2))[:, :, 1::2, 1::2].contiguous(memory_format=NHWC)


# --- statistics -------------------------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """Statistics of a map of J edges: mean and unbiased variance per channel, each (J, C)."""

    mean: Tensor
    var: Tensor


def normalise(x: Tensor, eps: float, scale: Tensor | None = None, shift: Tensor | None = None, edges: int = 1):
    """Normalise x (B, J·C, H, W) by its batch, times ``scale`` plus ``shift``, each (J, C) or None. Returns the map
    and its `Statistics`.

    ``edges``: J.
    """
    mean, var = x.new_zeros(2, x.shape[1]).unbind()
    # Contiguous, because F.batch_norm's gradient is wrong for expanded tensors.
    scale, shift = (None if t is None else t.flatten().to(x.dtype).contiguous() for t in (scale, shift))
    out = F.batch_norm(x, mean, var, scale, shift, training=True, momentum=1.0, eps=eps)
    return out, Statistics(mean.view(edges, -1), var.view(edges, -1))


class SeenBatch(NamedTuple):
    """Records that BatchNorm ``norm`` of candidate ``place`` saw row ``row`` of the statistics ``seen``."""

    norm: nn.BatchNorm2d
    place: Place
    seen: Statistics
    row: int


@torch.no_grad()
def update_running_statistics(moved: Sequence[SeenBatch], choice: Choice) -> None:
    """Update the running statistics of chosen candidates as their own forward would. Others keep theirs."""
    moved = [m for m in moved if m.norm.track_running_stats and m.norm.running_mean is not None]
    if not moved:
        return
    starts, seen = {}, []
    for m in moved:
        if id(m.seen) not in starts:
            starts[id(m.seen)] = sum(len(s.mean) for s in seen)
            seen.append(m.seen)
    device = choice.index.device
    rows = constant(tuple(starts[id(m.seen)] + m.row for m in moved), device)
    chosen = choice.is_([m.place for m in moved])
    momentum = constant(tuple(m.norm.momentum for m in moved), device, torch.float64)
    for name, parts in (("running_mean", [s.mean for s in seen]), ("running_var", [s.var for s in seen])):
        buffers = [getattr(m.norm, name) for m in moved]
        value, before = torch.cat(parts).index_select(0, rows).to(buffers[0].dtype), torch.stack(buffers)
        copy_rows(buffers, before.lerp(value, (momentum * chosen).to(value.dtype)[:, None]))
    counts: Any = [m.norm.num_batches_tracked for m in moved]
    copy_rows(counts, torch.stack(counts) + chosen)


def copy_rows(targets: Sequence[Tensor], values: Tensor) -> None:
    """Copy the rows of ``values`` to ``targets``, in one launch."""
    lists: Any = torch  # operations on lists are in no public module
    lists._foreach_copy_(list(targets), values.unbind())


# --- one stage of all edges --------------------------------------------------------------------------------------------

Row = tuple[int, int, Stage]  # (edge j, candidate o, stage)


class StageOfEdges:
    """Stage t of every candidate that has one (``rows``), for batches of ``sizes`` edges: (1) of
    `oche.kernels.single_path.cell`.

    ``last``: the candidates that end with this stage.
    """

    def __init__(self, rows: Sequence[Row], last: Sequence[Place], choice: Choice, sizes: Sequence[int]) -> None:
        self.rows, self.last, self.eps = rows, last, rows[0][2].norm.eps
        self.ends = [*accumulate(sizes)]
        separable = [(j, o, s) for j, o, s in rows if s.depthwise is not None]
        dense = [(j, o, s) for j, o, s in rows if s.depthwise is None and len(s.dense) == 1]
        halves = [(j, o, s) for j, o, s in rows if len(s.dense) == 2]
        self.depthwise = gather_weights(
            [CandidateWeight((j, o), s.conv.weight, s.dilation) for j, o, s in separable], choice, sizes
        )
        self.pointwise = gather_weights(
            [CandidateWeight((j, o), s.dense[0].weight) for j, o, s in separable], choice, sizes
        )
        self.dense = gather_weights(
            [CandidateWeight((j, o), s.conv.weight, s.dilation) for j, o, s in dense], choice, sizes
        )
        self.even, self.odd = (
            gather_weights([CandidateWeight((j, o), s.dense[i].weight) for j, o, s in halves], choice, sizes)
            for i in (0, 1)
        )
        learnt = gather_affine({(j, o): s.norm for j, o, s in rows}, choice)
        self.affine = None if learnt is None else [*zip(*(t.split(list(sizes)) for t in learnt), strict=True)]

    def of(self, i: int) -> list[Row]:
        """Return the stages of the edges in batch ``i``."""
        start = self.ends[i - 1] if i else 0
        return [row for row in self.rows if start <= row[0] < self.ends[i]]

    def convolve(self, x: Tensor, i: int, stride: int) -> Tensor:
        """Return the sum of all convolutions of x (B, J·C, H, W), the output of the ReLU of batch ``i``."""
        outs = []
        if (k := self.depthwise[i]) is not None and (p := self.pointwise[i]) is not None:
            outs.append(convolve(convolve(x, k, stride), p))
        if (d := self.dense[i]) is not None:
            outs.append(convolve(x, d, stride))
        if (even := self.even[i]) is not None and (odd := self.odd[i]) is not None:
            above, below = odd.shape[1], even.shape[1]  # channels of the other half
            outs.append(convolve(x, F.pad(even, (0,) * 6 + (0, above)), 2))
            outs.append(convolve(odd_pixels(x), F.pad(odd, (0,) * 6 + (below, 0))))
        return add_maps(outs)

    def normalise(self, p: Tensor, i: int, edges: int, v: Tensor | None) -> tuple[Tensor, Statistics]:
        """Apply the BatchNorm to p (B, J·C, H, W) of batch ``i`` of ``edges``, times ``v`` (J, 1) if given. Returns
        the map and its statistics.
        """
        scale, shift = (None, None) if self.affine is None else self.affine[i]
        if v is not None:
            scale = v.expand(-1, p.shape[1] // edges) if scale is None else v * scale
            shift = None if shift is None else v * shift
        return normalise(p, self.eps, scale, shift, edges)


def add_maps(maps: Sequence[Tensor]) -> Tensor:
    """Return the sum of at least one map."""
    out = maps[0]
    for other in maps[1:]:
        out = out + other
    return out
