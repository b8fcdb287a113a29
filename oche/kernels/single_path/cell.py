"""The flow of a cell in which one candidate of each edge is evaluated, without the host ever learning which one.

`oche.methods.stochastic_relaxations.GumbelHard` leaves its choice on the device. Here every edge computes one and the same form, and the choice
only says by which weights, so that the kernels of every step are the same and a CUDA graph may repeat them:

    p₁ = P₁ (K₁ ∗ relu(x)) + D₁ ∗ relu(x) + halves(relu(x)),   z₁ = norm(p₁),   z₂ = norm(P₂ (K₂ ∗ relu(z₁)))         (1)
    edge = v₁ z₁ + v₂ z₂ + Σ_m c_m m(x)                                                                              (2)

K is a depthwise kernel as large as the largest candidate's, taps far apart among them, P its pointwise one, D a dense one,
``halves`` the two convolutions of a factorised reduction, m(x) what needs no weights: x itself and pools of it, normalised or
not, each computed once for all edges that leave x. Weights are gathered by the choice, zeros where it has none, and of v and c
at most one is not zero, the weight of the choice. So an edge costs what its dearest candidate costs, whatever is chosen, and a
pool or a skip next to nothing. Edges that become ready together, those of all inputs, then those that leave a node, are computed
as one map of J·C channels.

Weights of candidates that are not chosen get a gradient of zero, where the plain form leaves them without one; what that means
to the optimiser is in `oche.kernels.single_path.unused_weights`. Used where steps are replayed (`oche.bilevel.cuda_graph_obstacles`); unmeasured on a GPU, none
was at hand. Shapes: E edges of a cell, J of them computed together, O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, DeviceChoice, Mix
from oche.kernels.batchnorm import NHWC
from oche.kernels.op_terms import Pool, Skip
from oche.kernels.shared import Shared, part
from oche.kernels.single_path.edges import Edge, Unknown, read
from oche.kernels.single_path.ops import Choice, Moved, Place, Statistics, constant, move, normalise
from oche.kernels.single_path.stage import Column, total
from oche.kernels.single_path.unused_weights import Reach, Trace
from oche.networks import forms


def flow(
    dag: Dag,
    edges: Sequence[nn.Module] | nn.ModuleList,
    inputs: list[Tensor],
    mix: Mix,
    stride: int,
    reach: Reach | None = None,
) -> list[Tensor]:
    """As `oche.spaces.mixed_ops.flow`, which computes what has no part here: other mixtures, evaluation, autocast. Tells ``reach``
    what has been chosen."""
    cell = _cell(dag, edges, mix, inputs[0], stride)
    if cell is None:
        return forms.node_states(dag, edges, inputs, mix, stride)
    states = [Shared(x.contiguous(memory_format=NHWC)) for x in inputs]
    cell.leave(0, states)
    for i, node in enumerate(cell.nodes, 1):
        states.append(Shared(node.total(cell.k, states[0].map, stride)))
        cell.leave(i, states)
    move(cell.moved, cell.choice)
    maps = [state.map for state in states]
    return maps if reach is None or not cell.edges else reach.watch(edges, cell.trace(), maps)


def form(reach: Reach) -> forms.Form:
    """The form that tells ``reach`` what its cells have chosen."""
    return forms.Form("chosen", partial(flow, reach=reach))


@dataclass
class Node:
    """What flows into a node: through candidates, and past them."""

    through: list[Tensor] = field(default_factory=list)
    past: list[Tensor] = field(default_factory=list)

    def total(self, k: int, like: Tensor, stride: int) -> Tensor:
        """(B, C, H, W) its state; where nothing flows, zeros as large as what leaves ``like`` with ``stride``."""
        if not self.through and not self.past:
            return torch.zeros_like(like[:, :, ::stride, ::stride], memory_format=NHWC)
        if k == 1:
            return total(self.through).contiguous(memory_format=NHWC)
        rest = total(self.past)  # the sum of maps that are shuffled is their sum, shuffled
        first = total(self.through) if self.through else torch.zeros_like(rest[:, : like.shape[1] // k])
        out = torch.cat([first, rest], 1).unflatten(1, (k, -1)).transpose(1, 2).flatten(1, 2)
        return out.contiguous(memory_format=NHWC)


def _cell(dag: Dag, edges: Any, mix: Mix, like: Tensor, stride: int) -> Cell | None:
    """The evaluation of a cell; None where the plain form has to do it."""
    if not isinstance(mix.active, DeviceChoice) or torch.is_autocast_enabled(like.device.type):
        return None
    try:
        found = read(edges, mix.active.alive.tolist())
    except Unknown:
        return None
    found.sort(key=lambda edge: dag.edges[edge.e][0])  # in the order in which they are computed
    if not all(module.training for edge in found for module in edge.module.modules()):
        return None
    return Cell(dag, found, mix, mix.active, like, stride)


class Cell:
    """One evaluation of a cell; its living ``edges`` are counted by j."""

    def __init__(self, dag: Dag, edges: list[Edge], mix: Mix, active: DeviceChoice, like: Tensor, stride: int) -> None:
        self.dag, self.edges, self.stride = dag, edges, stride
        self.sources, targets = [dag.edges[edge.e][0] for edge in edges], [dag.edges[edge.e][1] for edge in edges]
        self.nodes = [Node() for _ in dag.incoming]
        self.into = [self.nodes[target - dag.inputs] for target in targets]
        self.k = max((edge.k for edge in edges), default=1)
        order = constant(tuple(edge.e for edge in edges), like.device)
        self.choice = Choice(active.choice.index_select(0, order), mix.ops.shape[1])
        strength = mix.strength().index_select(0, order)
        self.weight = strength.gather(1, self.choice.index[:, None])[:, 0].to(like.dtype)  # (J,)
        self.scale = None if mix.edges is None else mix.edges.index_select(0, order).to(like.dtype).unbind()
        self.batches = [
            [j for j, s in enumerate(self.sources) if max(0, s - dag.inputs + 1) == i] for i in range(dag.nodes + 1)
        ]
        sizes = [len(js) for js in self.batches]
        self.columns = columns(edges, self.choice, sizes)
        self.weights = [(self.weight * self.choice.has(column.last)).split(sizes) for column in self.columns]
        self.moved: list[Moved] = []

    def trace(self) -> Trace:
        """What `Reach` is told."""
        places = [(j, o) for j, edge in enumerate(self.edges) for o in edge.alive]
        weights = [((j, o), edge.candidates[o]) for j, edge in enumerate(self.edges) for o in edge.known]
        carrying = places if self.k > 1 else [place for place, _ in weights]
        ends, inputs = [self.dag.edges[edge.e] for edge in self.edges], self.dag.inputs
        return Trace(self.choice, ends, weights, carrying, inputs, inputs + self.dag.nodes)

    def leave(self, i: int, states: list[Shared]) -> None:
        """Adds what batch ``i`` of edges carries to the nodes that it goes to: those of all inputs, or those of one node."""
        js = self.batches[i]
        if not js:
            return
        maps = {s: self.slices(states[s], 0) for s in {self.sources[j] for j in js}}
        self.convolve(i, [maps[self.sources[j]] for j in js])
        for source, some in groupby(js, lambda j: self.sources[j]):
            self.share([*some], maps[source])
        if self.k > 1:
            for j in js:
                self.bypass(j, self.slices(states[self.sources[j]], 1))

    def slices(self, state: Shared, i: int) -> Shared:
        """The channels of ``state`` that pass through candidates (``i`` 0), or past them."""
        if self.k == 1:
            return state
        partial_edge: Any = self.edges[0].module
        return state.by((self.k, i), partial(part, split=partial_edge.split, i=i))

    def bypass(self, j: int, rest: Shared) -> None:
        edge: Any = self.edges[j].module
        out = rest.by(edge.stride, edge.bypass).map
        self.into[j].past.append(out if self.scale is None else self.scale[j] * out)

    def convolve(self, i: int, maps: list[Shared]) -> None:
        """Equations (1) and the part of (2) with weights, of batch ``i``, whose edges read ``maps``."""
        js, stages = self.batches[i], [column for column in self.columns if column.of(i)]
        if not stages:
            return
        x = torch.cat([m.relu().map for m in maps], 1)
        outs: list[Tensor] = []
        for t, (column, weights) in enumerate(zip(stages, self.weights, strict=False)):
            v, last = weights[i][:, None], t + 1 == len(stages)
            p = column.convolve(x, i, 1 if i or t else self.stride)
            z, seen = column.normalise(p, i, len(js), v if last else None)
            self.moved += [Moved(s.norm, (j, o), seen, j - js[0]) for j, o, s in column.of(i)]
            out = z.unflatten(1, (len(js), -1))
            outs.append(out if last else out * v[..., None, None])
            x = x if last else z.relu()
        for j, out in zip(js, total(outs).unbind(1), strict=True):
            self.into[j].through.append(out)

    def share(self, js: list[int], source: Shared) -> None:
        """The part of (2) without weights, of edges ``js`` that leave ``source``: a product of few rows with all maps."""
        kinds: dict[Any, list[tuple[Place, Pool | Skip]]] = {}
        for j in js:
            for o, piece in self.edges[j].known.items():
                if isinstance(piece, Pool | Skip):
                    kinds.setdefault(_kind(piece), []).append(((j, o), piece))
        if not kinds:
            return
        rows = []
        for kind, members in kinds.items():
            found, seen = source.once(kind, partial(_made, kind=kind))
            rows.append(found.permute(0, 2, 3, 1))
            if seen is not None:
                self.moved += [Moved(p.norm, place, seen, 0) for place, p in members if isinstance(p, Pool) and p.norm]
        which = {place: m for m, members in enumerate(kinds.values(), 1) for place, _ in members}
        numbers = constant(tuple(range(1, len(kinds) + 1)), self.weight.device)
        c = self.weight[:, None] * (self.choice.look_up(which)[:, None] == numbers)
        out = c[js[0] : js[-1] + 1] @ torch.stack(rows).flatten(1)
        for j, row in zip(js, out.unflatten(1, rows[0].shape).unbind(), strict=True):
            self.into[j].through.append(row.permute(0, 3, 1, 2))


def columns(edges: Sequence[Edge], choice: Choice, sizes: Sequence[int]) -> list[Column]:
    """Of the first stages of all candidates, the second ones, …; for batches of ``sizes`` edges."""
    rows = [
        (t, (j, o, s), t + 1 == len(row))
        for j, edge in enumerate(edges)
        for o, row in edge.stages
        for t, s in enumerate(row)
    ]
    found = []
    for t in range(max((t + 1 for t, *_ in rows), default=0)):
        last = [row[:2] for at, row, ends in rows if ends and at == t]
        found.append(Column([row for at, row, _ in rows if at == t], last, choice, sizes))
    return found


def _kind(piece: Pool | Skip) -> Any:
    if isinstance(piece, Skip):
        return "chosen", None
    return "chosen", (piece.largest, piece.stride, None if piece.norm is None else piece.norm.eps)


def _made(x: Tensor, kind: Any) -> tuple[Tensor, Statistics | None]:
    """x, pooled and normalised as ``kind`` says."""
    if kind[1] is None:
        return x, None
    largest, stride, eps = kind[1]
    pool = nn.MaxPool2d(3, stride, 1) if largest else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return (pool(x), None) if eps is None else normalise(pool(x), eps)
