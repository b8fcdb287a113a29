"""Split networks into the parts whose costs add up to the cost of the network.

Shapes: E edges of a cell, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha1
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Genotype, Mix, Shape
from oche.core.errors import OcheError
from oche.networks.build import SIZES, FinalNetwork, build
from oche.spaces.base import Space
from oche.spaces.mixed_ops import Edge, EdgeBuilder

SUPERNET = "supernet"  # instead of a recipe's name: the size of the supernet


@dataclass(frozen=True)
class Place:
    """A place for a candidate: its channels, its stride and the size (H, W) of its input map."""

    channels: int
    stride: int
    size: tuple[int, int]
    c_out: int | None = None
    """channels of its output; None: as many as its input has"""

    @property
    def edge(self) -> Shape:
        """The shape of the edge."""
        return Shape(self.channels, self.channels if self.c_out is None else self.c_out, self.stride)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the input."""
        return self.channels, *self.size

    def key(self, operation: str) -> str:
        """Return a text that identifies ``operation`` at this place. Equal keys have equal costs."""
        to = "" if self.c_out is None else f" to {self.c_out}"
        return f"{operation} {_format_shape(self.shape)} stride {self.stride}{to}"


@dataclass(frozen=True)
class Part:
    """A module of a network, and the shape (C, H, W) of its input."""

    module: nn.Module
    shape: tuple[int, ...]
    key: str
    """identifies it; equal keys have equal costs"""


@dataclass(frozen=True)
class SpaceParts:
    """The parts of the networks of a space, for any cells."""

    fixed: tuple[Part, ...]
    """the parts that every network has"""
    places: Mapping[str, tuple[tuple[Place, ...], ...]]
    """by group, for each of the E edges: its place in every cell"""


def final_network(space: Space, genotype: Genotype) -> FinalNetwork:
    """Build the final network of a genotype, at the size of ``space``."""
    space_fields = {f.name for f in fields(space)}
    sizes = {name: getattr(space, name) for name in (*SIZES, "classes", "in_channels", "image") if name in space_fields}
    return build(genotype, **sizes)


def space_parts(space: Space) -> SpaceParts:
    """Return the parts of the networks of ``space``, at its own sizes.

    Raises `OcheError` if its supernet has other edges than its groups say.
    """
    probes: list[_Probe] = []
    space = replace(space, affine=True)  # BatchNorms of final networks learn scale and shift
    with torch.random.fork_rng(devices=[]):
        net = space.supernet(edge=_Probes(probes)).eval()
    groups = [space.groups[plan.kind] for plan in space.plans]
    if sum(map(len, groups)) != len(probes):
        raise OcheError(
            f"{type(space).__name__} has other edges than its plans and groups say; its cost cannot be computed"
        )
    mixes = {name: Mix(torch.ones(len(dag), 1), None, ((0,),) * len(dag)) for name, dag in space.groups.items()}
    x = torch.zeros(1, space.in_channels, *space.image)
    fixed = parts(net, lambda: net(x, mixes))
    edges, places = iter(probes), {name: [[] for _ in range(len(dag))] for name, dag in space.groups.items()}
    for plan, dag in zip(space.plans, groups, strict=True):
        for e in range(len(dag)):
            places[plan.kind][e].append(next(edges).place)
    return SpaceParts(tuple(fixed), {name: tuple(map(tuple, rows)) for name, rows in places.items()})


class _Probe(Edge):
    """An edge that records the shape of its input, and returns a map of the right shape."""

    place: Place

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...]) -> Tensor:
        c_in, c_out, stride = self.shape
        self.place = Place(c_in, stride, (x.shape[2], x.shape[3]), None if c_in == c_out else c_out)
        small = x[:, :, ::stride, ::stride]
        return small if c_in == c_out else small[:, :1].expand(-1, c_out, -1, -1)


@dataclass(frozen=True)
class _Probes(EdgeBuilder):
    """Builds probes, and keeps them in ``probes``."""

    probes: list[_Probe]

    def __call__(self, space: Space, shape: Shape) -> _Probe:
        self.probes.append(_Probe(shape))
        return self.probes[-1]


# --- parts of any network -----------------------------------------------------------------------------------------------


def parts(net: nn.Module, run: Callable[[], Any]) -> list[Part]:
    """Return the modules of ``net`` that ``run()`` calls, with the shapes of their inputs.

    A module that contains a ModuleList, such as a network or a cell, is split further. Edges of a supernet are left
    out.
    """
    found: list[Part] = []

    def see(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        shape = tuple(args[0].shape[1:])
        outs = " and ".join(_format_shape(o.shape[1:]) for o in (out if isinstance(out, tuple) else (out,)))
        digest = sha1(repr(module).encode()).hexdigest()[:8]
        found.append(Part(module, shape, f"{type(module).__name__} {digest} {_format_shape(shape)} to {outs}"))

    handles = [module.register_forward_hook(see) for module in _top_modules(net)]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _top_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules to measure: the largest ones without a ModuleList inside."""
    for child in module.children():
        if isinstance(child, Edge):
            continue
        if any(isinstance(inner, nn.ModuleList) for inner in child.modules()):
            yield from _top_modules(child)
        else:
            yield child


def _format_shape(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(map(str, shape))
