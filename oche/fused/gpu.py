"""The states of a cell's nodes on the Triton kernels: `oche.spaces.edges.flow`, the same numbers, gathered by source.

All edges that leave a node read it together: one launch for the first depthwise stages of all their candidates, each pool
once, and one pass that normalises, weights and sums what they carry to each of their targets. A backward keeps a stage's
input and output alone: activations, normalised maps and depthwise results are computed again. Edges and candidates that are
not recognised compute as their modules do, and their results are added.

Activations are bfloat16 or float32 (float64 in the interpreter), statistics and sums at least float32; weights, of any type,
are cast for the 1 × 1 convolutions and gradients come back in theirs. Differentiable once. Off by default and unmeasured: no
GPU was at hand.

Shapes: J edges that leave a node, S summands of each, K depthwise kernels of each, G = 1 or J inputs of a stage, B images,
H × W pixels, C channels, T weights of a channel over all K kernels; maps are rows of channels, (G, B, H, W, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arch import Dag, Mix
from ..errors import OcheError
from ..spaces.edges import Form, MixedOperation
from ..spaces.ops import Zero
from .terms import Pool, Skip, Stage, pieces

if find_spec("triton") is None:
    kernels: Any = None
else:
    from . import triton_kernels as kernels


def refusal(device: torch.device) -> str | None:
    """Why the kernels cannot run on ``device``, in one line."""
    if kernels is None:
        return "Triton is not installed (pip install triton, or a CUDA build of torch, which brings it)"
    if device.type != "cuda":
        return f"Triton's kernels need a CUDA device, this is {device}"
    major, minor = torch.cuda.get_device_capability(device)
    return None if major >= 8 else f"Triton's kernels need compute capability 8.0, this device has {major}.{minor}"


def _once() -> None:
    if torch.is_grad_enabled():  # a backward that is itself to be differentiated
        raise OcheError(
            "the Triton kernels are differentiable once, and exact, Neumann and curvature differentiate twice; "
            "use --engine plain, or FiniteDifference"
        )


class Normal(NamedTuple):
    """How a map (M, B, H, W, C) is normalised: statistics (M, C), constants here; scale and shift (J, C) if learnt."""

    mean: Tensor | None = None
    rstd: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None

    def slope(self) -> Tensor:
        assert self.rstd is not None
        return self.rstd if self.gamma is None else self.gamma * self.rstd

    def affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift) such that normalised = x · scale + shift."""
        assert self.mean is not None
        shift = -self.mean * self.slope()
        return self.slope(), shift if self.beta is None else self.beta + shift


class Separable(torch.autograd.Function):
    """ReLU, depthwise and 1 × 1 convolutions of x (G, B, H, W, C), normalised first if ``normal`` says so.

    ``w`` (J, T, C) depthwise weights, ``dense`` K of (J, C', C); returns K maps (J, B, H', W', C').
    """

    @staticmethod
    def forward(ctx: Any, kinds: Any, stride: int, x: Tensor, w: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        normal, dense = Normal(*rest[:4]), rest[4:]
        ctx.kinds, ctx.stride = kinds, stride
        ctx.save_for_backward(x, w, *rest)
        y = Separable.stage(ctx, x, w, normal).forward(w)
        return tuple(_dense(part, d.to(x.dtype).transpose(1, 2)) for part, d in zip(y, dense, strict=True))

    @staticmethod
    def stage(ctx: Any, x: Tensor, w: Tensor, normal: Normal) -> Any:
        affine = None if normal.mean is None else tuple(t.contiguous() for t in normal.affine())
        return kernels.Depthwise(x, affine, ctx.kinds, ctx.stride, len(w))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        _once()
        x, w, *rest = ctx.saved_tensors
        normal, dense = Normal(*rest[:4]), rest[4:]
        stage = Separable.stage(ctx, x, w, normal)
        y, dy, pairs = stage.forward(w), None, []
        for k, (g, d) in enumerate(zip(gradients, dense, strict=True)):
            rows = g.reshape(len(g), -1, g.shape[-1])
            pairs.append(torch.bmm(rows.transpose(1, 2), y[k].flatten(1, 3)).to(d.dtype))
            dy = torch.empty_like(y) if dy is None else dy
            torch.bmm(rows, d.to(x.dtype), out=dy[k].flatten(1, 3))
        del y
        dx, dw = stage.input(w, dy), stage.weight(dy)
        gamma = beta = None
        if normal.mean is not None:
            dx, gamma, beta = _through_norm(dx, x, normal)
        return None, None, dx, dw, None, None, gamma, beta, *pairs


def _dense(y: Tensor, d: Tensor) -> Tensor:
    """(J, B, H, W, C) by (J, C, C')."""
    return torch.bmm(y.flatten(1, 3), d).view(*y.shape[:-1], d.shape[-1])


def _through_norm(du: Tensor, x: Tensor, normal: Normal) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients by x, scale and shift, from that by what went into the ReLU; one per member."""
    assert normal.mean is not None
    sums, (dots,) = kernels.dots(du, [x], normal.mean[None])
    dots = dots * normal.rstd
    dx = kernels.combine([du, x], *_slopes(normal, normal.slope(), sums, dots, x[0, ..., 0].numel()))
    return dx, None if normal.gamma is None else dots, None if normal.beta is None else sums


def _slopes(normal: Normal, a: Tensor, sums: Tensor, dots: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """BatchNorm's backward, dx = a · (g − mean of g − u · mean of (g · u)) with u = (x − mean) / deviation, as the
    coefficients of g, x and 1; ``sums`` those of g over the n pixels, ``dots`` of g · u."""
    assert normal.mean is not None and normal.rstd is not None
    pull = -a * normal.rstd * dots / n
    return torch.stack([a, pull]), -a * sums / n - pull * normal.mean


class Weigh(torch.autograd.Function):
    """out[j] = sum over s of w[j, s] · normalised z_s[j], w (J, S), z_s (1 or J, B, H, W, C), each with its `Normal`."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, *flat: Any) -> Tensor:
        ctx.save_for_backward(w, *flat)
        slopes, shifts = [], []
        wide = kernels.width(flat[0].dtype)
        for s, (z, *normal) in enumerate(_fives(flat)):
            scale, shift = Normal(*normal).affine() if normal[0] is not None else (w.new_ones(1, 1), w.new_zeros(1, 1))
            slopes.append((w[:, s, None] * scale).to(wide).expand(len(w), z.shape[-1]))
            shifts.append((w[:, s, None] * shift).to(wide).expand(len(w), z.shape[-1]))
        return kernels.combine(flat[::5], torch.stack(slopes), torch.stack(shifts).sum(0))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        _once()
        w, *flat = ctx.saved_tensors
        g, parts = g.contiguous(), _fives(flat)
        zero = torch.zeros((1, 1), dtype=kernels.width(g.dtype), device=g.device)
        means = [(zero if p[1] is None else p[1]).expand(len(w), g.shape[-1]) for p in parts]
        sums, dots = kernels.dots(g, flat[::5], torch.stack(means))
        columns, found = [], []
        for s, (z, *normal) in enumerate(parts):
            column, rest = Weigh.part(g, z, Normal(*normal), w[:, s, None], sums, dots[s])
            columns.append(column)
            found += rest
        return torch.stack(columns, 1).to(w.dtype), *found

    @staticmethod
    def part(g: Tensor, z: Tensor, normal: Normal, w: Tensor, sums: Tensor, dots: Tensor) -> Any:
        """Gradients by the weights (J,) of one summand, by itself, and by its normalisation."""
        count = len(w)
        if normal.rstd is None:
            ones = sums.new_ones(1, g.shape[-1])
            return dots.sum(1), [_spread(g, z, (w * ones)[:, None].unbind(), None, ones * 0), None, None, None, None]
        dots = dots * normal.rstd
        carried = dots if normal.gamma is None else normal.gamma * dots
        carried = carried if normal.beta is None else carried + normal.beta * sums
        gamma, beta = (None if n is None else w * d for n, d in ((normal.gamma, dots), (normal.beta, sums)))
        both, shift = _slopes(normal, w * normal.slope(), sums, dots, z[0, ..., 0].numel())
        if len(z) == count:
            dz = kernels.combine([g, z], both, shift)
        else:
            dz = _spread(g, z, both[0][:, None].unbind(), both[1].sum(0, keepdim=True), shift.sum(0, keepdim=True))
        return carried.sum(1), [dz, None, None, gamma, beta]


def _fives(flat: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(flat[i : i + 5]) for i in range(0, len(flat), 5)]


def _spread(g: Tensor, z: Tensor, of: Sequence[Tensor], own: Tensor | None, shift: Tensor) -> Tensor:
    """The gradient of a map that all members share: the sum of ``of`` · g over them, plus own · z + shift."""
    inputs = [*g.split(1), *([] if own is None else [z])]
    return kernels.combine(inputs, torch.stack([*of, *([] if own is None else [own])]).to(shift.dtype), shift)


# --- what stands on the edges -----------------------------------------------------------------------------------------


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
            return "stages", tuple((s.kernel, s.dilation, s.stride, s.norm.affine, s.norm.eps) for s in piece)
        if isinstance(piece, Pool):
            return "pool", piece.largest, piece.stride, piece.norm and (piece.norm.affine, piece.norm.eps)
        return ("skip",)


def _known(edge: MixedOperation, active: tuple[int, ...]) -> list[Known]:
    """The recognised ones among the ``active`` candidates, convolutions first, by kind."""
    found = []
    for o in active:
        module = edge.candidates[o]
        piece = pieces(module)
        if piece is None or (isinstance(piece, tuple) and any(s.depthwise is None for s in piece)):
            continue
        if all(n.training and n.momentum is not None for n in Known(o, piece).norms):
            found.append(Known(o, piece))
    return sorted(found, key=lambda k: repr(k.sort), reverse=True)


@dataclass
class Source:
    """A node while its edges are computed: the map itself, its pools, and running statistics still to be moved."""

    state: Tensor
    pools: dict[Any, Tensor] = field(default_factory=dict)
    moved: list[tuple[nn.BatchNorm2d, Tensor, Tensor, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.x = _rows(self.state)

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
        key = piece.largest, piece.stride
        if key not in self.pools:
            pool: Any = module if piece.norm is None else module[0]  # pyright: ignore[reportIndexIssue]
            self.pools[key] = _rows(pool(self.state))
        return self.pools[key]

    def stages(self, rows: list[list[tuple[Stage, ...]]]) -> list[Tensor]:
        """The map (J, B, H', W', C) behind the last stage of every candidate, before its last normalisation."""
        if not rows[0]:
            return []
        firsts = [[stages[0] for stages in row] for row in rows]
        maps = list(_separable(self.x, firsts, Normal()))
        for k, column in enumerate(zip(*rows, strict=True)):
            for before, after in zip(range(len(column[0])), range(1, len(column[0])), strict=False):
                normal = self.normal(maps[k], [stages[before].norm for stages in column])
                (maps[k],) = _separable(maps[k], [[stages[after]] for stages in column], normal)
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


def _rows(x: Tensor) -> Tensor:
    """(1, B, H, W, C), without a copy where (B, C, H, W) is channels_last."""
    return x.permute(0, 2, 3, 1).contiguous()[None]


def _separable(x: Tensor, rows: Sequence[Sequence[Stage]], normal: Normal) -> tuple[Tensor, ...]:
    wide = kernels.width(x.dtype)
    parts = [[s.depthwise.weight.flatten(1).t() for s in row] for row in rows]  # pyright: ignore[reportOptionalMemberAccess]
    w = torch.stack([torch.cat(row) for row in parts]).to(wide).contiguous()
    dense = [torch.stack([s.dense[0].weight.flatten(1) for s in column]) for column in zip(*rows, strict=True)]
    kinds = tuple((s.kernel, s.dilation) for s in rows[0])
    return Separable.apply(kinds, rows[0][0].stride, x, w, *normal, *dense)


def _move_statistics(moved: Sequence[tuple[nn.BatchNorm2d, Tensor, Tensor, int]]) -> None:
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


# --- cells ------------------------------------------------------------------------------------------------------------


def flow(
    dag: Dag, edges: Sequence[nn.Module] | nn.ModuleList, inputs: list[Tensor], mix: Mix, stride: int
) -> list[Tensor]:
    """As `oche.spaces.edges.flow`."""
    cell = Cell(dag, edges, mix, [[] for _ in dag.incoming])
    states = list(inputs)
    with torch.autocast(inputs[0].device.type, enabled=False):  # maps stay of the type that they come in
        for source in range(dag.inputs + dag.nodes):
            if source >= dag.inputs:
                parts = cell.parts[source - dag.inputs]
                states.append(_sum(parts) if parts else torch.zeros_like(inputs[0][:, :, ::stride, ::stride]))
            cell.leave(source, states[source])
    _move_statistics(cell.moved)
    return states


GPU = Form("gpu", flow)


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class Cell:
    """What flows into each node so far."""

    def __init__(self, dag: Dag, edges: Any, mix: Mix, parts: list[list[Tensor]]) -> None:
        self.dag, self.edges, self.active, self.parts = dag, edges, mix.active, parts
        weights = mix.ops if mix.edges is None else mix.ops * mix.edges[:, None]
        self.rows = weights.unbind()
        self.plain = mix.ops.unbind(), None if mix.edges is None else mix.edges.unbind()
        self.moved: list[Any] = []

    def leave(self, source: int, state: Tensor) -> None:
        """Adds what leaves ``source`` to the nodes it goes to."""
        alike: dict[Any, list[tuple[int, list[Known]]]] = {}
        for e, (start, _) in enumerate(self.dag.edges):
            if start != source or not self.active[e]:
                continue
            if type(self.edges[e]) is not MixedOperation or not state.is_floating_point():
                self.whole(e, state)
                continue
            known = _known(self.edges[e], self.active[e])
            self.others(e, state, {k.o for k in known})
            if known:
                alike.setdefault(tuple(k.sort for k in known), []).append((e, known))
        if alike:
            self.together(Source(state), list(alike.values()))

    def together(self, source: Source, groups: list[list[tuple[int, list[Known]]]]) -> None:
        for group in groups:
            w = torch.stack([torch.stack([self.rows[e][k.o] for k in known]) for e, known in group])
            out = source.carried([self.edges[e] for e, _ in group], [known for _, known in group], w)
            for (e, _), part in zip(group, out.unbind(), strict=True):
                self.add(e, part.permute(0, 3, 1, 2))
        self.moved += source.moved

    def whole(self, e: int, state: Tensor) -> None:
        """An edge as its module computes it."""
        ops, scales = self.plain
        with _cast(state):
            out = self.edges[e](state, ops[e], self.active[e])
        if out is not None:
            self.add(e, out if scales is None else scales[e] * out)

    def others(self, e: int, state: Tensor, known: set[int]) -> None:
        """The candidates of an edge that are not ``known``, as their modules compute them."""
        for o in self.active[e]:
            module = self.edges[e].candidates[o]
            if o not in known and not isinstance(module, Zero):
                with _cast(state):
                    self.add(e, self.rows[e][o] * module(state))

    def add(self, e: int, part: Tensor) -> None:
        self.parts[self.dag.edges[e][1] - self.dag.inputs].append(part)


def _cast(state: Tensor) -> torch.autocast:
    """Modules whose weights are wider than a bfloat16 map need their inputs cast."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.dtype == torch.bfloat16)
