"""The states of a cell's nodes on the Triton kernels: `oche.spaces.mixed_ops.flow`, the same numbers, gathered by source.

All edges that leave a node read it together: one launch for the first depthwise stages of all their candidates, one ReLU and
one convolution for their dense ones, each pool once, and one pass that normalises, weights and sums what they carry to each of
their targets (`oche.kernels.triton.autograd`). Of partial channels the slices go the same way; what bypasses them is summed, and
channels are shuffled, once a node. Edges and candidates that are not recognised compute as their modules do, and their results
are added. Off by default and unmeasured: no GPU was at hand.

Shapes: B images, H × W pixels, C channels; maps are rows of channels, (1 or J, B, H, W, C) for J edges that leave a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, Mix
from oche.kernels.shared import Shared, part
from oche.kernels.triton.autograd import Normal, Weigh, kernels
from oche.kernels.triton.edges import Known, Source, known_of, move_statistics, rows_of
from oche.networks.forms import Form
from oche.networks.operations import Zero
from oche.spaces.mixed_ops import MixedOperation, PartialOperation


def refusal(device: torch.device) -> str | None:
    """Why the kernels cannot run on ``device``, in one line."""
    if kernels is None:
        return "Triton is not installed (pip install triton, or a CUDA build of torch, which brings it)"
    if device.type != "cuda":
        return f"Triton's kernels need a CUDA device, this is {device}"
    major, minor = torch.cuda.get_device_capability(device)
    return None if major >= 8 else f"Triton's kernels need compute capability 8.0, this device has {major}.{minor}"


def flow(
    dag: Dag, edges: Sequence[nn.Module] | nn.ModuleList, inputs: list[Tensor], mix: Mix, stride: int
) -> list[Tensor]:
    """As `oche.spaces.mixed_ops.flow`."""
    cell = Cell(dag, edges, mix)
    states = list(inputs)
    with torch.autocast(inputs[0].device.type, enabled=False):  # maps stay of the type that they come in
        for source in range(dag.inputs + dag.nodes):
            if source >= dag.inputs:
                out = cell.nodes[source - dag.inputs].total()
                states.append(torch.zeros_like(inputs[0][:, :, ::stride, ::stride]) if out is None else out)
            cell.leave(source, states[source])
    move_statistics(cell.moved)
    return states


GPU = Form("gpu", flow)


@dataclass
class Slices:
    """What flows into a node through partial channels: through the slice, and past it, with its weights."""

    mixed: list[Tensor] = field(default_factory=list)
    past: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def total(self, k: int) -> Tensor:
        """(B, C, H, W): adding, concatenating and shuffling are linear, so one of each is enough."""
        flat = [value for z in self.past for value in (z, *Normal())]
        rest = Weigh.apply(torch.stack(self.weights)[None], *flat)[0].permute(0, 3, 1, 2)
        shape = rest.shape[0], rest.shape[1] // (k - 1), *rest.shape[2:]
        first = _sum(self.mixed) if self.mixed else rest.new_zeros(shape)
        rows = torch.cat([first, rest], 1).permute(0, 2, 3, 1)
        return rows.unflatten(-1, (k, -1)).transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)


@dataclass
class Node:
    """What flows into a node so far: maps of all channels, and slices of one in k."""

    whole: list[Tensor] = field(default_factory=list)
    slices: dict[int, Slices] = field(default_factory=dict)

    def total(self) -> Tensor | None:
        parts = self.whole + [slices.total(k) for k, slices in self.slices.items()]
        return _sum(parts) if parts else None

    def add(self, k: int, out: Tensor) -> None:
        """Takes ``out``, of one channel in ``k``."""
        (self.whole if k == 1 else self.slices[k].mixed).append(out)


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for other in parts[1:]:
        total = total + other
    return total


class Cell:
    """One evaluation of a cell."""

    def __init__(self, dag: Dag, edges: Any, mix: Mix) -> None:
        self.dag, self.edges, self.active = dag, edges, mix.active
        self.nodes = [Node() for _ in dag.incoming]
        self.rows = mix.strength().unbind()
        self.plain = mix.ops.unbind(), None if mix.edges is None else mix.edges.unbind()
        self.moved: list[Any] = []

    def leave(self, source: int, state: Tensor) -> None:
        """Adds what leaves ``source`` to the nodes it goes to."""
        lanes: dict[int, dict[int, MixedOperation]] = {}
        for e, (start, _) in enumerate(self.dag.edges):
            if start != source or not self.active[e]:
                continue
            edge, k = _mixed(self.edges[e])
            if edge is None or not state.is_floating_point():
                self.whole(e, state)
            else:
                lanes.setdefault(k, {})[e] = edge
        whole = Shared(state)
        for k, edges in lanes.items():
            split = [state.shape[1] // k, state.shape[1] - state.shape[1] // k]
            if k > 1:
                self.past(k, edges, Shared(part(state, split, 1)))
            self.lane(k, edges, Source(whole if k == 1 else Shared(part(state, split, 0))))

    def lane(self, k: int, edges: dict[int, MixedOperation], source: Source) -> None:
        """What ``edges`` carry of one channel in ``k``, which ``source`` has."""
        alike: dict[Any, dict[int, list[Known]]] = {}
        for e, edge in edges.items():
            known = known_of(edge, self.active[e])
            self.others(e, k, edge, source.state.map, {one.o for one in known})
            if known:
                alike.setdefault(tuple(one.sort for one in known), {})[e] = known
        for group in alike.values():
            w = torch.stack([torch.stack([self.rows[e][one.o] for one in known]) for e, known in group.items()])
            out = source.carried([edges[e] for e in group], [*group.values()], w)
            for e, one in zip(group, out.unbind(), strict=True):
                self.target(e).add(k, one.permute(0, 3, 1, 2))
        self.moved += source.moved

    def past(self, k: int, edges: dict[int, MixedOperation], rest: Shared) -> None:
        """What bypasses ``edges``, each scaled by the weight of its edge."""
        for e in edges:
            edge, scales = self.edges[e], self.plain[1]
            slices = self.target(e).slices.setdefault(k, Slices())
            slices.past.append(rest.once(("bypass", edge.stride), lambda x, edge=edge: rows_of(edge.bypass(x))))
            slices.weights.append(self.plain[0][e].new_ones(()) if scales is None else scales[e])

    def whole(self, e: int, state: Tensor) -> None:
        """An edge as its module computes it."""
        ops, scales = self.plain
        with _cast(state):
            out = self.edges[e](state, ops[e], self.active[e])
        if out is not None:
            out = out if scales is None else scales[e] * out
            self.target(e).add(1, out.to(state.dtype) if state.is_floating_point() else out)

    def others(self, e: int, k: int, edge: MixedOperation, state: Tensor, known: set[int]) -> None:
        """The candidates of an edge that are not ``known``, as their modules compute them."""
        for o in self.active[e]:
            module = edge.candidates[o]
            if o not in known and not isinstance(module, Zero):
                with _cast(state):
                    self.target(e).add(k, self.rows[e][o] * module(state))

    def target(self, e: int) -> Node:
        return self.nodes[self.dag.edges[e][1] - self.dag.inputs]


def _mixed(edge: nn.Module) -> tuple[MixedOperation | None, int]:
    """The mixed operation that ``edge`` is, or that one channel in k goes through; None where it is something else."""
    if type(edge) is PartialOperation and edge.k > 1 and type(edge.inner) is MixedOperation:
        return edge.inner, edge.k
    return (edge, 1) if type(edge) is MixedOperation else (None, 1)


def _cast(state: Tensor) -> torch.autocast:
    """Modules whose weights are wider than a bfloat16 map need their inputs cast."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.dtype == torch.bfloat16)
