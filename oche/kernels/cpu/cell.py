"""Compute the states of a cell on the compiled kernels, node by node. Same numbers as `oche.networks.forms.node_states`.

Shared work is done once: a source is read once for all first stages of its edges into a node, and pooled once for all
nodes. Candidates and edges that are not recognised compute as modules, and their outputs are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, Mix
from oche.core.schedules import linear
from oche.kernels.cpu import discrete
from oche.kernels.cpu.node import ConvTerm, Node, NodeProgram, Pools, SourceTerm, TensorTerm, Term
from oche.kernels.op_terms import Pool, parse_operation
from oche.networks.forms import Form
from oche.networks.forms import node_states as plain_node_states
from oche.networks.operations import Zero
from oche.spaces.edge_variants import AuxiliaryOperation, PartialOperation
from oche.spaces.mixed_ops import Edge, MixedOperation

NO_STATISTICS = torch.empty(0, dtype=torch.float64)


@dataclass
class SourceCache:
    """Pools and channel slices of the states of one cell, each computed once. Keys are ids of states, which live
    longer than this cache.
    """

    pools: dict[tuple[int, int, bool], tuple[Tensor, Tensor]] = field(default_factory=dict)
    parts: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    passed: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    def pool(self, x: Tensor, pool: Pool) -> tuple[Tensor, Tensor]:
        """Return the pooled map, and its statistics (2, C)."""
        key = id(x), pool.stride, pool.largest
        if key not in self.pools:
            largest, mean, stats = Pools.apply(x, pool.stride, pool.largest, not pool.largest)
            self.pools[key] = (largest, stats[0]) if pool.largest else (mean, stats[1])
        return self.pools[key]

    def part(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the first C / k channels of x, and the rest."""
        if (id(x), k) not in self.parts:
            first, rest = x.split([x.shape[1] // k, x.shape[1] - x.shape[1] // k], 1)
            self.parts[id(x), k] = _channels_last(first), _channels_last(rest)
        return self.parts[id(x), k]

    def bypass(self, x: Tensor, edge: PartialOperation) -> Tensor:
        """Return the channels of x that pass by ``edge``."""
        key = id(x), edge.k, edge.stride
        if key not in self.passed:
            self.passed[key] = edge.bypass(self.part(x, edge.k)[1])
        return self.passed[key]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class NodeBuilder:
    """Collects the candidates of one node and their weights."""

    def __init__(self, shared: SourceCache) -> None:
        self.shared = shared
        self.terms: list[Term] = []
        self.sources: list[Tensor] = []
        self.given: list[Tensor] = []
        self.stats: list[Tensor] = []
        self.weights: list[Tensor | float] = []

    def edge(self, edge: Edge, x: Tensor, weights: Tensor, active: tuple[int, ...], scale: Tensor | None) -> None:
        """Add all candidates of ``edge`` on input x, each times ``scale``."""
        if isinstance(edge, MixedOperation):
            row = (weights if scale is None else weights * scale).unbind()
            candidates = list(edge.candidates)  # ModuleList looks single modules up by text
            for o in edge.paths(active):
                if not isinstance(candidates[o], Zero):
                    self._candidate(edge, o, candidates[o], x, row[o])
        elif isinstance(edge, AuxiliaryOperation):
            self.edge(edge.inner, x, weights, active, scale)
            if (beta := linear(edge.beta, edge.progress)) != 0:
                self.add_tensor(edge.skip(x), beta if scale is None else beta * scale)
        elif (out := edge(x, weights, active)) is not None:
            self.add_tensor(out, 1.0 if scale is None else scale)

    def _candidate(self, edge: MixedOperation, o: int, module: nn.Module, x: Tensor, weight: Tensor) -> None:
        piece = parse_operation(module)
        if isinstance(piece, tuple):
            self.add(ConvTerm(self._source(x), piece), weight)
        elif isinstance(piece, Pool):
            pooled, stats = self.shared.pool(x, piece)
            self.add_tensor(pooled, weight, piece.norm, stats)
        elif (y := edge.evaluate(o, x)) is x:
            self.add(SourceTerm(self._source(x)), weight)
        else:
            self.add_tensor(y, weight)

    def _source(self, x: Tensor) -> int:
        at = next((i for i, s in enumerate(self.sources) if s is x), len(self.sources))
        self.sources += [x] if at == len(self.sources) else []
        return at

    def add(self, term: Term, weight: Tensor | float) -> None:
        self.terms.append(term)
        self.weights.append(weight)

    def add_tensor(
        self, y: Tensor, weight: Tensor | float, norm: nn.BatchNorm2d | None = None, stats: Tensor = NO_STATISTICS
    ) -> None:
        """Add a tensor that was computed already, through ``norm`` if given."""
        self.add(TensorTerm(len(self.given), norm), weight)
        self.given.append(y)
        self.stats.append(stats)

    def total(self, like: Tensor) -> Tensor | None:
        """Return the node's state, or None if nothing flows in."""
        if not self.terms:
            return None
        weights = [w if isinstance(w, Tensor) else torch.tensor(w, dtype=like.dtype) for w in self.weights]
        program = NodeProgram(self.terms, self.stats)
        tensors = [*self.sources, *self.given, *program.params]
        return Node.apply(program, len(self.sources), len(self.given), torch.stack(weights), *tensors)


def node_states(
    dag: Dag, edges: Sequence[nn.Module] | nn.ModuleList, inputs: list[Tensor], mix: Mix, stride: int
) -> list[Tensor]:
    """Compute `oche.networks.forms.node_states` on the compiled kernels; in evaluation mode call that function."""
    if not edges[0].training or not inputs[0].is_floating_point():
        return plain_node_states(dag, edges, inputs, mix, stride)
    states, shared, rows = [_channels_last(x) for x in inputs], SourceCache(), mix.ops.unbind()
    scales = [None] * len(dag) if mix.edges is None else mix.edges.unbind()
    for incoming in dag.incoming:
        live = [
            (edges[e], states[dag.edges[e][0]], rows[e], mix.active[e], scales[e]) for e in incoming if mix.active[e]
        ]
        node = _partial_node(live, shared) if _all_partial(live) else _full_node(live, shared, states[0])
        states.append(torch.zeros_like(states[0][:, :, ::stride, ::stride]) if node is None else node)
    return states


def apply(module: nn.Module, x: Tensor) -> Tensor:
    """Return ``module(x)``, on the compiled kernels if they know all its operations."""
    found = parse_operation(module) if module.training else None
    if not isinstance(found, tuple):
        return module(x)
    program = NodeProgram([ConvTerm(0, found)], [])
    return Node.apply(program, 1, 0, torch.ones(1), x, *program.params)


def apply_final(module: nn.Module, x: Tensor) -> Tensor:
    """Return ``module(x)``, an operation of a final network whose cell is not computed as a whole.

    torch computes dense convolutions faster than the kernels, and single 1 × 1 convolutions as fast.
    """
    found = parse_operation(module)
    separable = isinstance(found, tuple) and all(stage.depthwise is not None or stage.kernel == 0 for stage in found)
    return apply(module, x) if separable and not torch.is_autocast_enabled(x.device.type) else module(x)


def _full_node(live: Sequence[tuple], shared: SourceCache, like: Tensor) -> Tensor | None:
    gather = NodeBuilder(shared)
    for edge, x, row, active, scale in live:
        gather.edge(edge, x, row, active, scale)
    return gather.total(like)


def _all_partial(live: Sequence[tuple]) -> bool:
    ks = {edge.k if type(edge) is PartialOperation else 1 for edge, *_ in live}
    return len(ks) == 1 and ks != {1}


def _partial_node(live: Sequence[tuple], shared: SourceCache) -> Tensor:
    """Return a node whose edges are all partial. Summing, concatenating and shuffling are linear, so each is done once."""
    mixed, bypassed = NodeBuilder(shared), NodeBuilder(shared)
    for edge, x, row, active, scale in live:
        mixed.edge(edge.inner, shared.part(x, edge.k)[0], row, active, scale)
        bypassed.add_tensor(shared.bypass(x, edge), 1.0 if scale is None else scale)
    rest = bypassed.total(live[0][1])
    assert rest is not None
    k, first = live[0][0].k, mixed.total(rest)
    if first is None:
        first = rest.new_zeros(rest.shape[0], rest.shape[1] // (k - 1), *rest.shape[2:])
    return torch.cat([first, rest], 1).unflatten(1, (k, -1)).transpose(1, 2).flatten(1, 2)


NATIVE = Form("native", node_states, apply, apply_final, discrete.compute)
