"""Cells in plain torch operations that share all work which edges have in common. Same numbers as
`oche.networks.forms.node_states`.

The modules of `oche.spaces.mixed_ops` hold the parameters and the running statistics.

- Edges that leave a node share one ReLU, one pooled map of a kind, and one set of its statistics.
- The input of a node is normalised, weighted and summed at once (`oche.kernels.batchnorm`).
- Depthwise convolutions use fast gradient kernels (`oche.kernels.depthwise`).

A candidate is read as a sequence of leaf modules. Unknown leaves and unknown edges are called as they are, so that
users' operations and edges work. Networks in evaluation mode use the plain form.

Shapes: E edges of a cell, O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.architecture import Dag, Mix
from oche.core.schedules import linear
from oche.kernels.batchnorm import NHWC, Norm, Term, normalise, update_running_statistics, weighted_sum
from oche.kernels.depthwise import depthwise, supports
from oche.networks import forms
from oche.networks.operations import FactorizedReduce, Zero
from oche.spaces.edge_variants import AuxiliaryOperation, PartialOperation, PathDropoutOperation, SkipDropoutOperation
from oche.spaces.mixed_ops import MixedOperation

Edges = Sequence[nn.Module] | nn.ModuleList
MIXED = (MixedOperation, SkipDropoutOperation, PathDropoutOperation)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def node_states(dag: Dag, edges: Edges, inputs: list[Tensor], mix: Mix, stride: int) -> list[Tensor]:
    """Compute what `oche.networks.forms.node_states` does. States are in channels_last memory."""
    if not all(edge.training for edge in edges) or torch.is_autocast_enabled(inputs[0].device.type):
        return forms.node_states(dag, edges, inputs, mix, stride)
    cell = Cell(dag, edges, mix, [CachedMap(x.contiguous(memory_format=NHWC)) for x in inputs])
    for incoming in dag.incoming:
        out = cell.node([e for e in incoming if mix.active[e]])
        if out is None:
            out = torch.zeros_like(inputs[0][:, :, ::stride, ::stride], memory_format=NHWC)
        cell.sources.append(CachedMap(out))
    return [source.map for source in cell.sources]


def apply(module: nn.Module, x: Tensor) -> Tensor:
    """Return ``module(x)``."""
    if not module.training or torch.is_autocast_enabled(x.device.type):
        return module(x)
    return apply_leaves(leaves_of(module), CachedMap(x.contiguous(memory_format=NHWC))).map


SHARED = forms.Form("shared", node_states, apply, apply)


@dataclass(eq=False)
class CachedMap:
    """A map, and everything that was computed from it, each once."""

    map: Tensor
    made: dict[Any, Any] = field(default_factory=dict)

    def cached(self, key: Any, make: Callable[[Tensor], Any]) -> Any:
        """Return ``make(map)``, computed once for each ``key``."""
        if key not in self.made:
            self.made[key] = make(self.map)
        return self.made[key]

    def derived(self, key: Any, make: Callable[[Tensor], Tensor]) -> CachedMap:
        """Return ``make(map)`` as a `CachedMap`, computed once for each ``key``."""
        return self.cached(key, lambda x: CachedMap(make(x)))

    def relu(self) -> CachedMap:
        """Return relu(map)."""
        return self.derived("relu", F.relu)

    def subsampled(self, step: int, start: int = 0) -> CachedMap:
        """Return every ``step``-th pixel of every ``step``-th row, from ``start`` on. An odd side is padded by zeros
        if ``start`` needs it.
        """
        return self.derived((step, start), lambda x: _subsample(x, step, start))


def _subsample(x: Tensor, step: int, start: int) -> Tensor:
    h, w = x.shape[2:]
    if start and (h % step or w % step):
        x = F.pad(x, (0, w % step, 0, h % step))
    return x[:, :, start::step, start::step].contiguous(memory_format=NHWC)


class Cell:
    """One evaluation of a cell; ``sources`` are its states so far."""

    def __init__(self, dag: Dag, edges: Edges, mix: Mix, sources: list[CachedMap]) -> None:
        self.dag, self.edges, self.active, self.sources = dag, edges, mix.active, sources
        self.rows = mix.ops.unbind()
        self.scales = [mix.ops.new_ones(())] * len(dag) if mix.edges is None else mix.edges.unbind()
        self.weights = [row.unbind() for row in mix.strength().unbind()]

    def node(self, incoming: Sequence[int]) -> Tensor | None:
        """Return the sum of the incoming edges of a node, or None if there are none."""
        edges = {e: self.edges[e] for e in incoming}
        partial_edges = [edge for edge in edges.values() if _is_partial(edge)]
        if partial_edges and len(partial_edges) == len(edges) and len({edge.k for edge in partial_edges}) == 1:
            return self.partial_node(dict(zip(incoming, partial_edges, strict=True)))
        terms = [t for e in incoming for t in self.edge_terms(e, edges[e], self.sources[self.dag.edges[e][0]])]
        return weighted_sum(terms) if terms else None

    def edge_terms(self, e: int, edge: nn.Module, source: CachedMap) -> Iterator[Term]:
        """Yield the terms that ``edge``, number ``e`` or inside that one, adds to its target."""
        if type(edge) in MIXED and not has_hooks(edge):
            yield from self.mixed(e, cast(MixedOperation, edge), source)
        elif type(edge) is AuxiliaryOperation and not has_hooks(edge):
            yield from self.edge_terms(e, edge.inner, source)
            if (beta := linear(edge.beta, edge.progress)) != 0:
                yield candidate_term(edge.skip, source, beta * self.scales[e])
        elif (out := edge(source.map, self.rows[e], self.active[e])) is not None:
            yield Term(out, self.scales[e])

    def mixed(self, e: int, edge: MixedOperation, source: CachedMap) -> Iterator[Term]:
        """Yield the terms of a mixed operation."""
        drops = type(edge) is SkipDropoutOperation
        for o in edge.paths(self.active[e]):
            candidate, weight = edge.candidates[o], self.weights[e][o]
            if drops and isinstance(candidate, nn.Identity):
                yield Term(edge.evaluate(o, source.map), weight)
            elif not isinstance(candidate, Zero):
                yield candidate_term(candidate, source, weight)

    def partial_node(self, edges: dict[int, PartialOperation]) -> Tensor:
        """Return a node whose edges all use partial channels.

        Shuffling channels is linear: the sum of shuffled maps is their sum, shuffled once.
        """
        mixed, bypassed = [], []  # terms of the channels that candidates read, and of those that they do not
        for e, edge in edges.items():
            source, split = self.sources[self.dag.edges[e][0]], edge.split
            first, rest = (source.derived((edge.k, i), partial(channel_slice, split=split, i=i)) for i in (0, 1))
            mixed += self.edge_terms(e, edge.inner, first)
            bypassed.append(Term(rest.derived(edge.stride, edge.bypass).map, self.scales[e]))
        rest, (one, *_) = weighted_sum(bypassed), edges.values()
        first = weighted_sum(mixed) if mixed else torch.zeros_like(rest[:, : one.split[0]])
        out = torch.cat([first, rest], 1).unflatten(1, (one.k, -1)).transpose(1, 2).flatten(1, 2)  # shuffle
        return out.contiguous(memory_format=NHWC)


def _is_partial(edge: nn.Module) -> TypeGuard[PartialOperation]:
    """Whether ``edge`` is a known edge with partial channels."""
    return type(edge) is PartialOperation and edge.k > 1 and not has_hooks(edge)


def channel_slice(x: Tensor, split: list[int], i: int) -> Tensor:
    """Return the ``i``-th part of the channels of x, of the sizes ``split``."""
    return x.split(split, 1)[i].contiguous(memory_format=NHWC)


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody registered hooks on this module, so that it must be called."""
    m = module
    return bool(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks)


# --- candidates -------------------------------------------------------------------------------------------------------


class Halves(NamedTuple):
    """A `FactorizedReduce` without its BatchNorm."""

    conv_1: nn.Conv2d
    conv_2: nn.Conv2d


Leaf = nn.Module | Halves


def candidate_term(candidate: nn.Module, source: CachedMap, weight: Tensor) -> Term:
    """Return the term weight · candidate(source)."""
    leaves = list(leaves_of(candidate))
    last = leaves[-1] if leaves else None
    if not isinstance(last, Norm) or type(last) is not Norm or not last.training or has_hooks(last):
        return Term(apply_leaves(leaves, source).map, weight)
    source = apply_leaves(leaves[:-1], source)
    if last.affine or len(leaves) != 2 or type(leaves[0]) not in POOLS:
        return Term(source.map, weight, last)
    out, found = source.cached(last.eps, lambda x: normalise(x, last.eps))
    update_running_statistics(last, found)
    return Term(out, weight)


def leaves_of(module: nn.Module) -> Iterator[Leaf]:
    """Yield the modules that ``module`` applies in order; itself if it is no plain sequence."""
    if type(module) is nn.Sequential and not has_hooks(module):
        for child in module:
            yield from leaves_of(child)
    elif type(module) is FactorizedReduce and not any(map(has_hooks, (module, module.conv_1, module.conv_2))):
        yield Halves(module.conv_1, module.conv_2)
        yield module.bn
    else:
        yield module


def apply_leaves(leaves: Iterable[Leaf], at: CachedMap) -> CachedMap:
    """Apply ``leaves`` in order to a map."""
    before = None
    for leaf in leaves:
        if isinstance(leaf, nn.Module) and has_hooks(leaf):
            at = CachedMap(leaf(at.map))
        elif type(leaf) is nn.ReLU and type(before) is Norm:  # no other reader of this map, and no gradient needs it
            at = CachedMap(at.map.relu_())
        else:
            at = LEAF_FUNCTIONS.get(type(leaf), _apply_module)(leaf, at)
        before = leaf
    return at


def _apply_module(leaf: nn.Module, at: CachedMap) -> CachedMap:
    return CachedMap(leaf(at.map))


def _relu(leaf: nn.ReLU, at: CachedMap) -> CachedMap:
    return at.relu()


def _identity(leaf: nn.Identity, at: CachedMap) -> CachedMap:
    return at


def _pool(leaf: nn.Module, at: CachedMap) -> CachedMap:
    what = tuple(f"{name}={value}" for name, value in vars(leaf).items() if name[0] != "_")
    return at.derived((type(leaf), what), leaf)


def _conv(leaf: nn.Conv2d, at: CachedMap) -> CachedMap:
    if at.map.device.type != "cpu" or at.map.dtype not in (torch.float32, torch.float64) or not supports(leaf):
        return _apply_module(leaf, at)
    (stride, _), (dilation, _) = leaf.stride, leaf.dilation
    if stride == dilation > 1:
        at, stride, dilation = at.subsampled(stride), 1, 1
    return CachedMap(depthwise(at.map, leaf.weight, stride, dilation))


def _halves(leaf: Halves, at: CachedMap) -> CachedMap:
    even, odd = at.relu().subsampled(2), at.relu().subsampled(2, 1)
    return CachedMap(torch.cat([F.conv2d(even.map, leaf.conv_1.weight), F.conv2d(odd.map, leaf.conv_2.weight)], 1))


LEAF_FUNCTIONS: dict[type, Callable[[Any, CachedMap], CachedMap]] = {
    nn.ReLU: _relu,
    nn.Identity: _identity,
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.Conv2d: _conv,
    Halves: _halves,
}
