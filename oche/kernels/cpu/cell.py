"""The states of a cell's nodes on the compiled kernels: `oche.spaces.mixed_ops.flow`, the same numbers, gathered by node.

What edges share is computed once: a source is read once for all first stages of its edges into a node, and pooled once for
all nodes. Candidates and edges that are not recognised compute as their modules do, and their results are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, Mix
from oche.core.schedules import linear
from oche.kernels.cpu.node import Convs, Given, Itself, Node, Pools, Program, Term
from oche.kernels.op_terms import Pool, pieces
from oche.networks.forms import Form
from oche.networks.forms import node_states as plain_flow
from oche.networks.operations import Zero
from oche.spaces.mixed_ops import AuxiliaryOperation, Edge, MixedOperation, PartialOperation

NOTHING = torch.empty(0, dtype=torch.float64)


@dataclass
class Shared:
    """What the nodes of one cell have in common: pools and slices of its states. States outlive it, so ids are theirs."""

    pools: dict[tuple[int, int, bool], tuple[Tensor, Tensor]] = field(default_factory=dict)
    parts: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    passed: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    def pool(self, x: Tensor, pool: Pool) -> tuple[Tensor, Tensor]:
        """(pooled, statistics (2, C))."""
        key = id(x), pool.stride, pool.largest
        if key not in self.pools:
            largest, mean, stats = Pools.apply(x, pool.stride, pool.largest, not pool.largest)
            self.pools[key] = (largest, stats[0]) if pool.largest else (mean, stats[1])
        return self.pools[key]

    def part(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The first C / k channels of x, and the rest."""
        if (id(x), k) not in self.parts:
            first, rest = x.split([x.shape[1] // k, x.shape[1] - x.shape[1] // k], 1)
            self.parts[id(x), k] = _last(first), _last(rest)
        return self.parts[id(x), k]

    def bypass(self, x: Tensor, edge: PartialOperation) -> Tensor:
        """What goes past ``edge`` from x."""
        key = id(x), edge.k, edge.stride
        if key not in self.passed:
            self.passed[key] = edge.bypass(self.part(x, edge.k)[1])
        return self.passed[key]


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class Gather:
    """The candidates of one node, and their weights."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.terms: list[Term] = []
        self.sources: list[Tensor] = []
        self.given: list[Tensor] = []
        self.stats: list[Tensor] = []
        self.weights: list[Tensor | float] = []

    def edge(self, edge: Edge, x: Tensor, weights: Tensor, active: tuple[int, ...], scale: Tensor | None) -> None:
        """Everything that ``edge`` carries from x, each scaled by ``scale``."""
        if isinstance(edge, MixedOperation):
            row = (weights if scale is None else weights * scale).unbind()
            candidates = list(edge.candidates)  # torch looks a single one up by its number as text
            for o in edge.paths(active):
                if not isinstance(candidates[o], Zero):
                    self._candidate(edge, o, candidates[o], x, row[o])
        elif isinstance(edge, AuxiliaryOperation):
            self.edge(edge.inner, x, weights, active, scale)
            if (beta := linear(edge.beta, edge.progress)) != 0:
                self.give(edge.skip(x), beta if scale is None else beta * scale)
        elif (out := edge(x, weights, active)) is not None:
            self.give(out, 1.0 if scale is None else scale)

    def _candidate(self, edge: MixedOperation, o: int, module: nn.Module, x: Tensor, weight: Tensor) -> None:
        piece = pieces(module)
        if isinstance(piece, tuple):
            self.add(Convs(self._source(x), piece), weight)
        elif isinstance(piece, Pool):
            pooled, stats = self.shared.pool(x, piece)
            self.give(pooled, weight, piece.norm, stats)
        elif (y := edge.evaluate(o, x)) is x:
            self.add(Itself(self._source(x)), weight)
        else:
            self.give(y, weight)

    def _source(self, x: Tensor) -> int:
        at = next((i for i, s in enumerate(self.sources) if s is x), len(self.sources))
        self.sources += [x] if at == len(self.sources) else []
        return at

    def add(self, term: Term, weight: Tensor | float) -> None:
        self.terms.append(term)
        self.weights.append(weight)

    def give(
        self, y: Tensor, weight: Tensor | float, norm: nn.BatchNorm2d | None = None, stats: Tensor = NOTHING
    ) -> None:
        """Adds a tensor that is there already."""
        self.add(Given(len(self.given), norm), weight)
        self.given.append(y)
        self.stats.append(stats)

    def total(self, like: Tensor) -> Tensor | None:
        """The node; None where nothing flows into it."""
        if not self.terms:
            return None
        weights = [w if isinstance(w, Tensor) else torch.tensor(w, dtype=like.dtype) for w in self.weights]
        program = Program(self.terms, self.stats)
        tensors = [*self.sources, *self.given, *program.params]
        return Node.apply(program, len(self.sources), len(self.given), torch.stack(weights), *tensors)


def flow(
    dag: Dag, edges: Sequence[nn.Module] | nn.ModuleList, inputs: list[Tensor], mix: Mix, stride: int
) -> list[Tensor]:
    """`oche.spaces.mixed_ops.flow` on the compiled kernels. In evaluation mode it is that one."""
    if not edges[0].training or not inputs[0].is_floating_point():
        return plain_flow(dag, edges, inputs, mix, stride)
    states, shared, rows = [_last(x) for x in inputs], Shared(), mix.ops.unbind()
    scales = [None] * len(dag) if mix.edges is None else mix.edges.unbind()
    for incoming in dag.incoming:
        live = [
            (edges[e], states[dag.edges[e][0]], rows[e], mix.active[e], scales[e]) for e in incoming if mix.active[e]
        ]
        node = _partial(live, shared) if _all_partial(live) else _whole(live, shared, states[0])
        states.append(torch.zeros_like(states[0][:, :, ::stride, ::stride]) if node is None else node)
    return states


def apply(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, on the kernels where it consists of what they know."""
    found = pieces(module) if module.training else None
    if not isinstance(found, tuple):
        return module(x)
    program = Program([Convs(0, found)], [])
    return Node.apply(program, 1, 0, torch.ones(1), x, *program.params)


def _whole(live: Sequence[tuple], shared: Shared, like: Tensor) -> Tensor | None:
    gather = Gather(shared)
    for edge, x, row, active, scale in live:
        gather.edge(edge, x, row, active, scale)
    return gather.total(like)


def _all_partial(live: Sequence[tuple]) -> bool:
    ks = {edge.k if type(edge) is PartialOperation else 1 for edge, *_ in live}
    return len(ks) == 1 and ks != {1}


def _partial(live: Sequence[tuple], shared: Shared) -> Tensor:
    """A node all of whose edges are partial: summing, concatenating and shuffling are linear, so one of each is enough."""
    mixed, passed = Gather(shared), Gather(shared)
    for edge, x, row, active, scale in live:
        mixed.edge(edge.inner, shared.part(x, edge.k)[0], row, active, scale)
        passed.give(shared.bypass(x, edge), 1.0 if scale is None else scale)
    rest = passed.total(live[0][1])
    assert rest is not None
    k, first = live[0][0].k, mixed.total(rest)
    if first is None:
        first = rest.new_zeros(rest.shape[0], rest.shape[1] // (k - 1), *rest.shape[2:])
    return torch.cat([first, rest], 1).unflatten(1, (k, -1)).transpose(1, 2).flatten(1, 2)


NATIVE = Form("native", flow, apply)
