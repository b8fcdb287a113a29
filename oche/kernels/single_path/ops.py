"""What `oche.kernels.single_path.cell` is made of: weights gathered by a choice that lives on the device, and what is done with them.

Shapes: J edges, O candidates, R rows of a bank, B images, C channels, H × W pixels; the maps of J edges are one map
(B, J·C, H, W) in channels_last memory.
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

Place = tuple[int, int]  # (edge j, candidate o)


@cache  # never forgotten: graphs read them where they are
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """``values`` on the device, brought there once: what a graph replays moves nothing from the host."""
    with torch.inference_mode(False):  # so that gradients may keep it
        return torch.tensor(values, device=device, dtype=dtype)


class Choice(NamedTuple):
    """One candidate of each edge: ``index`` (J,), among O."""

    index: Tensor
    candidates: int

    def look_up(self, table: Mapping[Place, int]) -> Tensor:
        """(J,) what ``table`` has for the choice, 0 where it has nothing."""
        rows = tuple(tuple(table.get((j, o), 0) for o in range(self.candidates)) for j in range(len(self.index)))
        return constant(rows, self.index.device).gather(1, self.index[:, None])[:, 0]

    def has(self, places: Iterable[Place]) -> Tensor:
        """(J,) 1 where the choice is one of ``places``, else 0."""
        return self.look_up(dict.fromkeys(places, 1))

    def is_(self, places: Sequence[Place]) -> Tensor:
        """(N,) bool, of each of ``places`` whether it is the choice."""
        edges, candidates = (constant(part, self.index.device) for part in zip(*places, strict=True))
        return self.index.index_select(0, edges) == candidates


Lane = list[Tensor | None]
"""One kind of convolution, for each batch of edges: (J, C, M, k, k) the weights of the choice, which read M channels each, zeros
where it has none; None where no candidate has any."""


@dataclass(frozen=True)
class Part:
    """Candidate (j, o) has weight (C, M, k, k), its taps ``dilation`` apart."""

    place: Place
    weight: Tensor
    dilation: int = 1


def lane(parts: Sequence[Part], choice: Choice, sizes: Sequence[int]) -> Lane:
    """What ``choice`` takes of ``parts``, for batches of ``sizes`` edges."""
    if not parts:
        return [None] * len(sizes)
    kinds: dict[tuple[int, int], list[Part]] = {}
    for part in parts:
        kinds.setdefault((part.weight.shape[-1], part.dilation), []).append(part)
    size = max(d * (k - 1) + 1 for k, d in kinds)
    banks = [widened([p.weight for p in alike], d, size) for (_, d), alike in kinds.items()]
    order = [p.place for alike in kinds.values() for p in alike]
    ends, edges = [*accumulate(sizes)], {j for j, _ in order}
    some = [any(end - size <= j < end for j in edges) for end, size in zip(ends, sizes, strict=True)]
    return [w if on else None for w, on in zip(_take(banks, order, choice).split(list(sizes)), some, strict=True)]


def widened(weights: Sequence[Tensor], dilation: int, size: int) -> Tensor:
    """(R, C, M, size, size) kernels in the middle of a window, zeros around and between their taps."""
    bank = torch.stack(list(weights))
    k, middle = bank.shape[-1], size // 2
    if k == size:
        return bank
    taps = slice(middle - dilation * (k // 2), middle + dilation * (k // 2) + 1, dilation)
    wide = bank.new_zeros(*bank.shape[:3], size, size)
    wide[..., taps, taps] = bank
    return wide


def _take(banks: Sequence[Tensor], order: Sequence[Place], choice: Choice, otherwise: float = 0.0) -> Tensor:
    """(J, …) the rows of the choice, of ``banks`` (R, …) one behind the other; ``otherwise`` where it has none."""
    first = torch.full_like(banks[0][:1], otherwise)
    return torch.cat([first, *banks]).index_select(0, choice.look_up({place: i for i, place in enumerate(order, 1)}))


def affine(norms: Mapping[Place, nn.BatchNorm2d], choice: Choice) -> tuple[Tensor, Tensor] | None:
    """(J, C) scale and shift of the BatchNorm of the choice, 1 and 0 where it has none; None where no candidate has."""
    learnt = {place: norm for place, norm in norms.items() if norm.affine}
    if not learnt:
        return None
    scale, shift = (torch.stack([getattr(norm, name) for norm in learnt.values()]) for name in ("weight", "bias"))
    return _take([scale], [*learnt], choice, 1.0), _take([shift], [*learnt], choice)


def convolve(x: Tensor, weights: Tensor, stride: int = 1) -> Tensor:
    """x (B, J·C, H, W) by weights (J, C, M, k, k), each edge's by its own: (B, J·C, ⌈H / stride⌉, ⌈W / stride⌉)."""
    k, flat, side = weights.shape[-1], weights.flatten(0, 1), max(x.shape[2:])
    if k >= 2 * side:  # the outermost taps would see zeros alone
        cut = slice(k // 2 - side + 1, k // 2 + side)
        k, flat = 2 * side - 1, flat[..., cut, cut]
    if k == 1 and stride > 1:  # see `oche.networks.operations.Pointwise`
        x, stride = x[:, :, ::stride, ::stride].contiguous(memory_format=NHWC), 1
    groups = x.shape[1] // flat.shape[1]
    on_cpu = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if on_cpu and flat.shape[1] == 1 and k > 1 and x.shape[3] > 1:
        return depthwise(x, flat, stride)
    return F.conv2d(x, flat, None, stride, k // 2, 1, groups)


def shifted(x: Tensor) -> Tensor:
    """(B, C, ⌈H / 2⌉, ⌈W / 2⌉) every second pixel of every second row from the second on; zeros stand in beyond an odd side."""
    h, w = x.shape[2:]
    return F.pad(x, (0, w % 2, 0, h % 2))[:, :, 1::2, 1::2].contiguous(memory_format=NHWC)


# --- statistics -------------------------------------------------------------------------------------------------------


class Statistics(NamedTuple):
    """Of a map of J edges: mean and unbiased variance by channel, each (J, C)."""

    mean: Tensor
    var: Tensor


def normalise(x: Tensor, eps: float, scale: Tensor | None = None, shift: Tensor | None = None, edges: int = 1):
    """x (B, J·C, H, W) of ``edges`` J normalised by its batch, times ``scale`` plus ``shift``, each (J, C); its `Statistics`."""
    mean, var = x.new_zeros(2, x.shape[1]).unbind()
    # Contiguous: F.batch_norm's gradient is wrong for expanded ones.
    scale, shift = (None if t is None else t.flatten().to(x.dtype).contiguous() for t in (scale, shift))
    out = F.batch_norm(x, mean, var, scale, shift, training=True, momentum=1.0, eps=eps)
    return out, Statistics(mean.view(edges, -1), var.view(edges, -1))


class Moved(NamedTuple):
    """BatchNorm ``norm`` of candidate ``place`` saw row ``row`` of ``seen``."""

    norm: nn.BatchNorm2d
    place: Place
    seen: Statistics
    row: int


@torch.no_grad()
def move(moved: Sequence[Moved], choice: Choice) -> None:
    """Moves the running statistics of what has been chosen as its own forward would, those of others by 0."""
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
        put(buffers, before.lerp(value, (momentum * chosen).to(value.dtype)[:, None]))
    counts: Any = [m.norm.num_batches_tracked for m in moved]
    put(counts, torch.stack(counts) + chosen)


def put(targets: Sequence[Tensor], values: Tensor) -> None:
    """Copies rows of ``values`` to ``targets``, at once."""
    lists: Any = torch  # operations on lists are in no public module
    lists._foreach_copy_(list(targets), values.unbind())
