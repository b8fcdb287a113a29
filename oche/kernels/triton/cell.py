"""Compute the states of a cell on the Triton kernels, source by source. Same numbers as
`oche.networks.forms.node_states`.

All edges that leave a node read it together: one launch for the first depthwise stages of all candidates, one ReLU
and one convolution for the dense ones, each pool once, and one pass that normalises, weights and sums their outputs
for each target (`oche.kernels.triton.autograd`). Slices of partial channels go the same way; bypassed channels are
summed and shuffled once per node. Edges and candidates that are not recognised compute as modules, and their outputs
are added. Off by default and unmeasured: no GPU was available.

Shapes: B images, H × W pixels, C channels; maps are rows of channels, (1 or J, B, H, W, C) for J edges that leave a
node.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, Mix
from oche.core.cache_folders import folder_obstacle
from oche.kernels.shared import CachedMap, channel_slice
from oche.kernels.triton.autograd import Normalisation, WeightedSum, sum_kernels
from oche.kernels.triton.edges import KnownCandidate, Source, known_candidates, move_statistics, rows_of
from oche.networks.forms import Form
from oche.networks.operations import Zero
from oche.spaces.edge_variants import PartialOperation
from oche.spaces.mixed_ops import MixedOperation


def refusal(device: torch.device) -> str | None:
    """Return why the kernels cannot run on ``device``, in one line, or None."""
    if sum_kernels is None:
        return "Triton is not installed (pip install triton, or a CUDA build of torch, which brings it)"
    if device.type != "cuda":
        return f"Triton's kernels need a CUDA device, this is {device}"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"Triton's kernels need compute capability 8.0, this device has {major}.{minor}"
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or f"{home}/.triton/cache").absolute()
    if obstacle := folder_obstacle(folder):
        return (
            f"Triton's kernels cannot be kept in {folder}: {obstacle}; set TRITON_CACHE_DIR to a folder on another disk"
        )
    return None


def node_states(
    dag: Dag, edges: Sequence[nn.Module] | nn.ModuleList, inputs: list[Tensor], mix: Mix, stride: int
) -> list[Tensor]:
    """Compute what `oche.networks.forms.node_states` does."""
    cell = Cell(dag, edges, mix)
    states = list(inputs)
    with torch.autocast(inputs[0].device.type, enabled=False):  # maps keep their type
        for source in range(dag.inputs + dag.nodes):
            if source >= dag.inputs:
                out = cell.nodes[source - dag.inputs].total()
                states.append(torch.zeros_like(inputs[0][:, :, ::stride, ::stride]) if out is None else out)
            cell.add_outputs_of(source, states[source])
    move_statistics(cell.moved)
    return states


GPU = Form("gpu", node_states)


@dataclass
class PartialSums:
    """The inputs of a node from partial channels: mixed slices, and the bypassed channels with their weights."""

    mixed: list[Tensor] = field(default_factory=list)
    bypassed: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def total(self, k: int) -> Tensor:
        """Return their sum (B, C, H, W). Adding, concatenating and shuffling are linear, so each is done once."""
        flat = [value for z in self.bypassed for value in (z, *Normalisation())]
        rest = WeightedSum.apply(torch.stack(self.weights)[None], *flat)[0].permute(0, 3, 1, 2)
        shape = rest.shape[0], rest.shape[1] // (k - 1), *rest.shape[2:]
        first = _add_maps(self.mixed) if self.mixed else rest.new_zeros(shape)
        rows = torch.cat([first, rest], 1).permute(0, 2, 3, 1)
        return rows.unflatten(-1, (k, -1)).transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)


@dataclass
class Node:
    """The inputs of a node so far: maps of all channels, and partial channels by k."""

    whole: list[Tensor] = field(default_factory=list)
    slices: dict[int, PartialSums] = field(default_factory=dict)

    def total(self) -> Tensor | None:
        """Return the node's state, or None if nothing flows in."""
        parts = self.whole + [slices.total(k) for k, slices in self.slices.items()]
        return _add_maps(parts) if parts else None

    def add(self, k: int, out: Tensor) -> None:
        """Add ``out``, which has one channel in ``k``."""
        (self.whole if k == 1 else self.slices[k].mixed).append(out)


def _add_maps(parts: list[Tensor]) -> Tensor:
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

    def add_outputs_of(self, source: int, state: Tensor) -> None:
        """Add the outputs of all edges that leave ``source`` to their target nodes."""
        by_k: dict[int, dict[int, MixedOperation]] = {}
        for e, (start, _) in enumerate(self.dag.edges):
            if start != source or not self.active[e]:
                continue
            edge, k = _mixed(self.edges[e])
            if edge is None or not state.is_floating_point():
                self.add_module(e, state)
            else:
                by_k.setdefault(k, {})[e] = edge
        whole = CachedMap(state)
        for k, edges in by_k.items():
            split = [state.shape[1] // k, state.shape[1] - state.shape[1] // k]
            if k > 1:
                self.add_bypassed(k, edges, CachedMap(channel_slice(state, split, 1)))
            self.add_recognised(k, edges, Source(whole if k == 1 else CachedMap(channel_slice(state, split, 0))))

    def add_recognised(self, k: int, edges: dict[int, MixedOperation], source: Source) -> None:
        """Add the outputs of ``edges`` that read one channel in ``k``, held by ``source``."""
        alike: dict[Any, dict[int, list[KnownCandidate]]] = {}
        for e, edge in edges.items():
            known = known_candidates(edge, self.active[e])
            self.add_unrecognised(e, k, edge, source.state.map, {one.o for one in known})
            if known:
                alike.setdefault(tuple(one.signature for one in known), {})[e] = known
        for group in alike.values():
            w = torch.stack([torch.stack([self.rows[e][one.o] for one in known]) for e, known in group.items()])
            out = source.edge_sums([edges[e] for e in group], [*group.values()], w)
            for e, one in zip(group, out.unbind(), strict=True):
                self.target(e).add(k, one.permute(0, 3, 1, 2))
        self.moved += source.moved

    def add_bypassed(self, k: int, edges: dict[int, MixedOperation], rest: CachedMap) -> None:
        """Add the channels that bypass ``edges``, each times the weight of its edge."""
        for e in edges:
            edge, scales = self.edges[e], self.plain[1]
            slices = self.target(e).slices.setdefault(k, PartialSums())
            slices.bypassed.append(rest.cached(("bypass", edge.stride), lambda x, edge=edge: rows_of(edge.bypass(x))))
            slices.weights.append(self.plain[0][e].new_ones(()) if scales is None else scales[e])

    def add_module(self, e: int, state: Tensor) -> None:
        """Add an edge as its module computes it."""
        ops, scales = self.plain
        with _cast(state):
            out = self.edges[e](state, ops[e], self.active[e])
        if out is not None:
            out = out if scales is None else scales[e] * out
            self.target(e).add(1, out.to(state.dtype) if state.is_floating_point() else out)

    def add_unrecognised(self, e: int, k: int, edge: MixedOperation, state: Tensor, known: set[int]) -> None:
        """Add the candidates of an edge that are not ``known``, as their modules compute them."""
        for o in self.active[e]:
            module = edge.candidates[o]
            if o not in known and not isinstance(module, Zero):
                with _cast(state):
                    self.target(e).add(k, self.rows[e][o] * module(state))

    def target(self, e: int) -> Node:
        """Return the target node of edge e."""
        return self.nodes[self.dag.edges[e][1] - self.dag.inputs]


def _mixed(edge: nn.Module) -> tuple[MixedOperation | None, int]:
    """Return the mixed operation of ``edge``, and k if one channel in k goes through it; (None, 1) for another edge."""
    if type(edge) is PartialOperation and edge.k > 1 and type(edge.inner) is MixedOperation:
        return edge.inner, edge.k
    return (edge, 1) if type(edge) is MixedOperation else (None, 1)


def _cast(state: Tensor) -> torch.autocast:
    """Within, modules cast their inputs if the map is bfloat16, because their weights are wider."""
    return torch.autocast(state.device.type, torch.bfloat16, enabled=state.dtype == torch.bfloat16)
