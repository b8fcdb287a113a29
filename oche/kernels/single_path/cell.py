"""Compute the states of a cell with one candidate per edge, without the host learning which one was chosen.

`oche.methods.stochastic_relaxations.GumbelHard` leaves its choice on the device. Here every edge computes the same
expression, and the choice only selects the weights in it. So the kernels of every step are the same, and a CUDA graph
can repeat them:

    p₁ = P₁ (K₁ ∗ relu(x)) + D₁ ∗ relu(x) + halves(relu(x)),   z₁ = norm(p₁),   z₂ = norm(P₂ (K₂ ∗ relu(z₁)))         (1)
    edge = v₁ z₁ + v₂ z₂ + Σ_m c_m m(x)                                                                              (2)

K is a depthwise kernel of the size of the largest candidate's, including dilation; P is its pointwise kernel, D a
dense kernel, and ``halves`` the two convolutions of a factorised reduction. m(x) needs no weights: x itself and pools
of it, normalised or not, each computed once for all edges that leave x. Weights are gathered by the choice, zero
where it has none. At most one of v and c is not zero: the weight of the chosen candidate. So an edge costs as much as
its most expensive candidate, whatever is chosen, and pools and skips cost almost nothing. Edges that become ready
together (those of all inputs, then those of each node) are computed as one map of J·C channels.

Weights of candidates that are not chosen get a gradient of zero. In the plain form they get none;
`oche.kernels.single_path.unused_weights` treats the difference in the optimiser. Used where steps are replayed
(`oche.bilevel.cuda_graph_obstacles`). Unmeasured on a GPU: none was available.

Shapes: E edges of a cell, J of them computed together, O candidates, B images, C channels, H × W pixels.
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
from oche.kernels.shared import CachedMap, channel_slice
from oche.kernels.single_path.edges import Edge, Unsupported, read_edges
from oche.kernels.single_path.ops import (
    Choice,
    Place,
    SeenBatch,
    StageOfEdges,
    Statistics,
    add_maps,
    constant,
    normalise,
    update_running_statistics,
)
from oche.kernels.single_path.unused_weights import CellTrace, ReachTracker
from oche.networks import forms


def node_states(
    dag: Dag,
    edges: Sequence[nn.Module] | nn.ModuleList,
    inputs: list[Tensor],
    mix: Mix,
    stride: int,
    reach: ReachTracker | None = None,
) -> list[Tensor]:
    """Compute what `oche.networks.forms.node_states` does, and report the choice to ``reach``.

    Other mixtures, evaluation mode and autocast are passed on to that function.
    """
    cell = _cell(dag, edges, mix, inputs[0], stride)
    if cell is None:
        return forms.node_states(dag, edges, inputs, mix, stride)
    states = [CachedMap(x.contiguous(memory_format=NHWC)) for x in inputs]
    cell.leave(0, states)
    for i, node in enumerate(cell.nodes, 1):
        states.append(CachedMap(node.total(cell.k, states[0].map, stride)))
        cell.leave(i, states)
    update_running_statistics(cell.moved, cell.choice)
    maps = [state.map for state in states]
    return maps if reach is None or not cell.edges else reach.watch(edges, cell.trace(), maps)


def form(reach: ReachTracker) -> forms.Form:
    """Return the form that reports the choices of its cells to ``reach``."""
    return forms.Form("chosen", partial(node_states, reach=reach))


@dataclass
class Node:
    """The maps that flow into a node: through candidates, and past them (partial channels)."""

    mixed: list[Tensor] = field(default_factory=list)
    bypassed: list[Tensor] = field(default_factory=list)

    def total(self, k: int, like: Tensor, stride: int) -> Tensor:
        """Return the state (B, C, H, W); if nothing flows in, zeros of the size of ``like`` reduced by ``stride``."""
        if not self.mixed and not self.bypassed:
            return torch.zeros_like(like[:, :, ::stride, ::stride], memory_format=NHWC)
        if k == 1:
            return add_maps(self.mixed).contiguous(memory_format=NHWC)
        rest = add_maps(self.bypassed)  # the sum of shuffled maps is their sum, shuffled once
        first = add_maps(self.mixed) if self.mixed else torch.zeros_like(rest[:, : like.shape[1] // k])
        out = torch.cat([first, rest], 1).unflatten(1, (k, -1)).transpose(1, 2).flatten(1, 2)
        return out.contiguous(memory_format=NHWC)


def _cell(dag: Dag, edges: Any, mix: Mix, like: Tensor, stride: int) -> Cell | None:
    """Return the evaluation of a cell, or None if the plain form must compute it."""
    if not isinstance(mix.active, DeviceChoice) or torch.is_autocast_enabled(like.device.type):
        return None
    try:
        found = read_edges(edges, mix.active.alive.tolist())
    except Unsupported:
        return None
    found.sort(key=lambda edge: dag.edges[edge.e][0])  # the order in which they are computed
    if not all(module.training for edge in found for module in edge.module.modules()):
        return None
    return Cell(dag, found, mix, mix.active, like, stride)


class Cell:
    """One evaluation of a cell; j counts its living ``edges``."""

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
        self.moved: list[SeenBatch] = []

    def trace(self) -> CellTrace:
        """Return the record of this evaluation for `ReachTracker`."""
        places = [(j, o) for j, edge in enumerate(self.edges) for o in edge.alive]
        weights = [((j, o), edge.candidates[o]) for j, edge in enumerate(self.edges) for o in edge.known]
        carrying = places if self.k > 1 else [place for place, _ in weights]
        ends, inputs = [self.dag.edges[edge.e] for edge in self.edges], self.dag.inputs
        return CellTrace(self.choice, ends, weights, carrying, inputs, inputs + self.dag.nodes)

    def leave(self, i: int, states: list[CachedMap]) -> None:
        """Add the outputs of batch ``i`` of edges to their target nodes. Batch 0 leaves the inputs, batch n node n."""
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

    def slices(self, state: CachedMap, i: int) -> CachedMap:
        """Return the channels of ``state`` that pass through candidates (``i`` 0) or past them (1)."""
        if self.k == 1:
            return state
        partial_edge: Any = self.edges[0].module
        return state.derived((self.k, i), partial(channel_slice, split=partial_edge.split, i=i))

    def bypass(self, j: int, rest: CachedMap) -> None:
        """Add the channels that pass by edge j to its target."""
        edge: Any = self.edges[j].module
        out = rest.derived(edge.stride, edge.bypass).map
        self.into[j].bypassed.append(out if self.scale is None else self.scale[j] * out)

    def convolve(self, i: int, maps: list[CachedMap]) -> None:
        """Compute (1), and the summands of (2) with weights, for batch ``i``, whose edges read ``maps``."""
        js, stages = self.batches[i], [column for column in self.columns if column.of(i)]
        if not stages:
            return
        x = torch.cat([m.relu().map for m in maps], 1)
        outs: list[Tensor] = []
        for t, (column, weights) in enumerate(zip(stages, self.weights, strict=False)):
            v, last = weights[i][:, None], t + 1 == len(stages)
            p = column.convolve(x, i, 1 if i or t else self.stride)
            z, seen = column.normalise(p, i, len(js), v if last else None)
            self.moved += [SeenBatch(s.norm, (j, o), seen, j - js[0]) for j, o, s in column.of(i)]
            out = z.unflatten(1, (len(js), -1))
            outs.append(out if last else out * v[..., None, None])
            x = x if last else z.relu()
        for j, out in zip(js, add_maps(outs).unbind(1), strict=True):
            self.into[j].mixed.append(out)

    def share(self, js: list[int], source: CachedMap) -> None:
        """Compute the summands of (2) without weights, for edges ``js`` that leave ``source``: one small matrix times
        all maps.
        """
        kinds: dict[Any, list[tuple[Place, Pool | Skip]]] = {}
        for j in js:
            for o, piece in self.edges[j].known.items():
                if isinstance(piece, Pool | Skip):
                    kinds.setdefault(_kind(piece), []).append(((j, o), piece))
        if not kinds:
            return
        rows = []
        for kind, members in kinds.items():
            found, seen = source.cached(kind, partial(_pooled_map, kind=kind))
            rows.append(found.permute(0, 2, 3, 1))
            if seen is not None:
                self.moved += [
                    SeenBatch(p.norm, place, seen, 0) for place, p in members if isinstance(p, Pool) and p.norm
                ]
        which = {place: m for m, members in enumerate(kinds.values(), 1) for place, _ in members}
        numbers = constant(tuple(range(1, len(kinds) + 1)), self.weight.device)
        c = self.weight[:, None] * (self.choice.look_up(which)[:, None] == numbers)
        out = c[js[0] : js[-1] + 1] @ torch.stack(rows).flatten(1)
        for j, row in zip(js, out.unflatten(1, rows[0].shape).unbind(), strict=True):
            self.into[j].mixed.append(row.permute(0, 3, 1, 2))


def columns(edges: Sequence[Edge], choice: Choice, sizes: Sequence[int]) -> list[StageOfEdges]:
    """Return the first stages of all candidates, then the second ones, and so on, for batches of ``sizes`` edges."""
    rows = [
        (t, (j, o, s), t + 1 == len(row))
        for j, edge in enumerate(edges)
        for o, row in edge.stages
        for t, s in enumerate(row)
    ]
    found = []
    for t in range(max((t + 1 for t, *_ in rows), default=0)):
        last = [row[:2] for at, row, ends in rows if ends and at == t]
        found.append(StageOfEdges([row for at, row, _ in rows if at == t], last, choice, sizes))
    return found


def _kind(piece: Pool | Skip) -> Any:
    """Return what pools and skips must have in common to share one map."""
    if isinstance(piece, Skip):
        return "chosen", None
    return "chosen", (piece.largest, piece.stride, None if piece.norm is None else piece.norm.eps)


def _pooled_map(x: Tensor, kind: Any) -> tuple[Tensor, Statistics | None]:
    """Return x, pooled and normalised as ``kind`` says, and its statistics if it was normalised."""
    if kind[1] is None:
        return x, None
    largest, stride, eps = kind[1]
    pool = nn.MaxPool2d(3, stride, 1) if largest else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return (pool(x), None) if eps is None else normalise(pool(x), eps)
