"""The flow of a cell in plain torch operations, with everything shared that edges share. Same numbers as
`oche.spaces.mixed_ops.flow`, whose modules hold the parameters and the running statistics.

- Edges that leave a node read one ReLU, one pooled map of a kind, one set of its statistics.
- What reaches a node is normalised, weighted and summed at once (`oche.kernels.batchnorm`).
- Depthwise convolutions find their gradients by kernels that are fast (`oche.kernels.depthwise`).

A candidate is read as a chain of leaf modules. Leaves that are not known are called as they are, edges that are not
known too, so that operations and edges of users work; only networks in training mode come here, others go the plain way.

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
from oche.kernels.batchnorm import NHWC, Norm, Term, combine, move, normalise
from oche.kernels.depthwise import depthwise, fits
from oche.networks import forms
from oche.networks.operations import FactorizedReduce, Zero
from oche.spaces import mixed_ops as plain

Edges = Sequence[nn.Module] | nn.ModuleList
MIXED = (plain.MixedOperation, plain.SkipDropoutOperation, plain.PathDropoutOperation)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def flow(dag: Dag, edges: Edges, inputs: list[Tensor], mix: Mix, stride: int) -> list[Tensor]:
    """As `oche.spaces.mixed_ops.flow`; states are in channels_last memory."""
    if not all(edge.training for edge in edges) or torch.is_autocast_enabled(inputs[0].device.type):
        return forms.node_states(dag, edges, inputs, mix, stride)
    cell = Cell(dag, edges, mix, [Shared(x.contiguous(memory_format=NHWC)) for x in inputs])
    for incoming in dag.incoming:
        out = cell.node([e for e in incoming if mix.active[e]])
        if out is None:
            out = torch.zeros_like(inputs[0][:, :, ::stride, ::stride], memory_format=NHWC)
        cell.sources.append(Shared(out))
    return [source.map for source in cell.sources]


def apply(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``."""
    if not module.training or torch.is_autocast_enabled(x.device.type):
        return module(x)
    return walk(chain(module), Shared(x.contiguous(memory_format=NHWC))).map


SHARED = forms.Form("shared", flow, apply)


@dataclass(eq=False)
class Shared:
    """A map, and what has been made of it, each once."""

    map: Tensor
    made: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[Tensor], Any]) -> Any:
        if key not in self.made:
            self.made[key] = make(self.map)
        return self.made[key]

    def by(self, key: Any, make: Callable[[Tensor], Tensor]) -> Shared:
        return self.once(key, lambda x: Shared(make(x)))

    def relu(self) -> Shared:
        return self.by("relu", F.relu)

    def every(self, step: int, start: int = 0) -> Shared:
        """Every ``step``-th pixel of every ``step``-th row, from ``start`` on; zeros stand in beyond an odd side."""
        return self.by((step, start), lambda x: _every(x, step, start))


def _every(x: Tensor, step: int, start: int) -> Tensor:
    h, w = x.shape[2:]
    if start and (h % step or w % step):
        x = F.pad(x, (0, w % step, 0, h % step))
    return x[:, :, start::step, start::step].contiguous(memory_format=NHWC)


class Cell:
    """One evaluation of a cell; ``sources`` are its states so far."""

    def __init__(self, dag: Dag, edges: Edges, mix: Mix, sources: list[Shared]) -> None:
        self.dag, self.edges, self.active, self.sources = dag, edges, mix.active, sources
        self.rows = mix.ops.unbind()
        self.scales = [mix.ops.new_ones(())] * len(dag) if mix.edges is None else mix.edges.unbind()
        self.weights = [row.unbind() for row in mix.strength().unbind()]

    def node(self, incoming: Sequence[int]) -> Tensor | None:
        """The sum of what edges carry into a node; None where nothing flows."""
        edges = {e: self.edges[e] for e in incoming}
        some = [edge for edge in edges.values() if _shuffles(edge)]
        if some and len(some) == len(edges) and len({edge.k for edge in some}) == 1:
            return self.shuffled(dict(zip(incoming, some, strict=True)))
        terms = [t for e in incoming for t in self.carried(e, edges[e], self.sources[self.dag.edges[e][0]])]
        return combine(terms) if terms else None

    def carried(self, e: int, edge: nn.Module, source: Shared) -> Iterator[Term]:
        """The terms that ``edge``, which stands at ``e`` or within what does, adds to its target."""
        if type(edge) in MIXED and not hooked(edge):
            yield from self.mixed(e, cast(plain.MixedOperation, edge), source)
        elif type(edge) is plain.AuxiliaryOperation and not hooked(edge):
            yield from self.carried(e, edge.inner, source)
            if (beta := linear(edge.beta, edge.progress)) != 0:
                yield term(edge.skip, source, beta * self.scales[e])
        elif (out := edge(source.map, self.rows[e], self.active[e])) is not None:
            yield Term(out, self.scales[e])

    def mixed(self, e: int, edge: plain.MixedOperation, source: Shared) -> Iterator[Term]:
        drops = type(edge) is plain.SkipDropoutOperation
        for o in edge.paths(self.active[e]):
            candidate, weight = edge.candidates[o], self.weights[e][o]
            if drops and isinstance(candidate, nn.Identity):
                yield Term(edge.evaluate(o, source.map), weight)
            elif not isinstance(candidate, Zero):
                yield term(candidate, source, weight)

    def shuffled(self, edges: dict[int, plain.PartialOperation]) -> Tensor:
        """A node that partial channels alone reach: the sum of them shuffled is their sum, shuffled."""
        through, past = [], []
        for e, edge in edges.items():
            source, split = self.sources[self.dag.edges[e][0]], edge.split
            first, rest = (source.by((edge.k, i), partial(part, split=split, i=i)) for i in (0, 1))
            through += self.carried(e, edge.inner, first)
            past.append(Term(rest.by(edge.stride, edge.bypass).map, self.scales[e]))
        rest, (one, *_) = combine(past), edges.values()
        out = combine(through) if through else torch.zeros_like(rest[:, : one.split[0]])
        out = torch.cat([out, rest], 1).unflatten(1, (one.k, -1)).transpose(1, 2).flatten(1, 2)
        return out.contiguous(memory_format=NHWC)


def _shuffles(edge: nn.Module) -> TypeGuard[plain.PartialOperation]:
    """Whether this is known to bypass channels."""
    return type(edge) is plain.PartialOperation and edge.k > 1 and not hooked(edge)


def part(x: Tensor, split: list[int], i: int) -> Tensor:
    """The ``i``-th part of the channels of x."""
    return x.split(split, 1)[i].contiguous(memory_format=NHWC)


def hooked(module: nn.Module) -> bool:
    """Whether somebody waits for this module to be called."""
    m = module
    return bool(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks)


# --- candidates -------------------------------------------------------------------------------------------------------


class Halves(NamedTuple):
    """A `FactorizedReduce` up to its BatchNorm."""

    conv_1: nn.Conv2d
    conv_2: nn.Conv2d


Leaf = nn.Module | Halves


def term(candidate: nn.Module, source: Shared, weight: Tensor) -> Term:
    """weight · candidate(source)."""
    leaves = list(chain(candidate))
    last = leaves[-1] if leaves else None
    if not isinstance(last, Norm) or type(last) is not Norm or not last.training or hooked(last):
        return Term(walk(leaves, source).map, weight)
    source = walk(leaves[:-1], source)
    if last.affine or len(leaves) != 2 or type(leaves[0]) not in POOLS:
        return Term(source.map, weight, last)
    out, found = source.once(last.eps, lambda x: normalise(x, last.eps))
    move(last, found)
    return Term(out, weight)


def chain(module: nn.Module) -> Iterator[Leaf]:
    """What ``module`` applies one after another; itself, if it is no plain sequence."""
    if type(module) is nn.Sequential and not hooked(module):
        for part in module:
            yield from chain(part)
    elif type(module) is FactorizedReduce and not any(map(hooked, (module, module.conv_1, module.conv_2))):
        yield Halves(module.conv_1, module.conv_2)
        yield module.bn
    else:
        yield module


def walk(leaves: Iterable[Leaf], at: Shared) -> Shared:
    """What ``leaves``, one after another, make of a map."""
    before = None
    for leaf in leaves:
        if isinstance(leaf, nn.Module) and hooked(leaf):
            at = Shared(leaf(at.map))
        elif type(leaf) is nn.ReLU and type(before) is Norm:  # nobody else sees this map, and no gradient needs it
            at = Shared(at.map.relu_())
        else:
            at = APPLY.get(type(leaf), _call)(leaf, at)
        before = leaf
    return at


def _call(leaf: nn.Module, at: Shared) -> Shared:
    return Shared(leaf(at.map))


def _relu(leaf: nn.ReLU, at: Shared) -> Shared:
    return at.relu()


def _same(leaf: nn.Identity, at: Shared) -> Shared:
    return at


def _pool(leaf: nn.Module, at: Shared) -> Shared:
    what = tuple(f"{name}={value}" for name, value in vars(leaf).items() if name[0] != "_")
    return at.by((type(leaf), what), leaf)


def _conv(leaf: nn.Conv2d, at: Shared) -> Shared:
    if at.map.device.type != "cpu" or at.map.dtype not in (torch.float32, torch.float64) or not fits(leaf):
        return _call(leaf, at)
    (stride, _), (dilation, _) = leaf.stride, leaf.dilation
    if stride == dilation > 1:
        at, stride, dilation = at.every(stride), 1, 1
    return Shared(depthwise(at.map, leaf.weight, stride, dilation))


def _halves(leaf: Halves, at: Shared) -> Shared:
    even, odd = at.relu().every(2), at.relu().every(2, 1)
    return Shared(torch.cat([F.conv2d(even.map, leaf.conv_1.weight), F.conv2d(odd.map, leaf.conv_2.weight)], 1))


APPLY: dict[type, Callable[[Any, Shared], Shared]] = {
    nn.ReLU: _relu,
    nn.Identity: _same,
    nn.MaxPool2d: _pool,
    nn.AvgPool2d: _pool,
    nn.Conv2d: _conv,
    Halves: _halves,
}
