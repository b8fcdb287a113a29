"""The parts of networks, and what enters each of them: what a cost is a sum of.

Shapes: E edges of a cell, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha1
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Genotype, Mix
from oche.core.errors import OcheError
from oche.networks.build import FinalNetwork, build
from oche.networks.operations import find_operation
from oche.spaces.base import Space
from oche.spaces.mixed_ops import Edge, EdgeBuilder

SUPERNET = "supernet"  # in place of a recipe's name: networks as large as the supernet
SIZES = ("channels", "cells", "stem", "reductions", "widen", "head")  # fields that spaces and recipes may share


@dataclass(frozen=True)
class Place:
    """Where a candidate may stand: its channels, its stride and the (H, W) of the map that enters it."""

    channels: int
    stride: int
    size: tuple[int, int]

    def module(self, operation: str) -> nn.Module:
        """``operation`` as it stands there in a final network."""
        return find_operation(operation).build(self.channels, self.stride, True)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, *self.size

    def key(self, operation: str) -> str:
        """What tells its cost from that of any other."""
        return f"{operation} {_by(self.shape)} stride {self.stride}"


@dataclass(frozen=True)
class Part:
    """A module of a network and the (C, H, W) of what enters it."""

    module: nn.Module
    shape: tuple[int, ...]
    key: str
    """what tells its cost from that of any other"""


@dataclass(frozen=True)
class Survey:
    """What the networks of a space are made of, whichever cells they have."""

    fixed: tuple[Part, ...]
    """what is there in any case"""
    places: Mapping[str, tuple[tuple[Place, ...], ...]]
    """by group, for each of the E edges: where it stands, once for every cell"""


def final(space: Space, genotype: Genotype) -> FinalNetwork:
    """The final network of a genotype, as large as ``space`` says."""
    own = {f.name for f in fields(space)}
    sizes = {name: getattr(space, name) for name in (*SIZES, "classes", "in_channels", "image") if name in own}
    return build(genotype, **sizes)


def survey(space: Space) -> Survey:
    """The parts of the networks of ``space``, at its own sizes. Raises `OcheError`."""
    made: list[_Probe] = []
    space = replace(space, affine=True)  # BatchNorms of final networks learn scale and shift
    with torch.random.fork_rng(devices=[]):
        net = space.supernet(edge=_Probes(made)).eval()
    groups = [space.groups[plan.kind] for plan in space.plans]
    if sum(map(len, groups)) != len(made):
        raise OcheError(f"{type(space).__name__} has other edges than its plans and groups say; it cannot be priced")
    mixes = {name: Mix(torch.ones(len(dag), 1), None, ((0,),) * len(dag)) for name, dag in space.groups.items()}
    x = torch.zeros(1, space.in_channels, *space.image)
    fixed = parts(net, lambda: net(x, mixes))
    edges, places = iter(made), {name: [[] for _ in range(len(dag))] for name, dag in space.groups.items()}
    for plan, dag in zip(space.plans, groups, strict=True):
        for e in range(len(dag)):
            places[plan.kind][e].append(next(edges).place)
    return Survey(tuple(fixed), {name: tuple(map(tuple, rows)) for name, rows in places.items()})


class _Probe(Edge):
    """Stands on an edge to see what enters it; carries the right shape on."""

    place: Place

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...]) -> Tensor:
        self.place = Place(self.channels, self.stride, (x.shape[2], x.shape[3]))
        return x[:, :, :: self.stride, :: self.stride]


@dataclass(frozen=True)
class _Probes(EdgeBuilder):
    made: list[_Probe]

    def __call__(self, space: Space, channels: int, stride: int) -> _Probe:
        self.made.append(_Probe(channels, stride))
        return self.made[-1]


# --- parts of any network -----------------------------------------------------------------------------------------------


def parts(net: nn.Module, run: Callable[[], Any]) -> list[Part]:
    """The modules of ``net`` that `run()` calls, each as often as it does: what has a ModuleList inside, as networks and cells
    have, is taken apart; edges of a supernet are left out."""
    found: list[Part] = []

    def see(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        shape = tuple(args[0].shape[1:])
        outs = " and ".join(_by(o.shape[1:]) for o in (out if isinstance(out, tuple) else (out,)))
        like = sha1(repr(module).encode()).hexdigest()[:8]
        found.append(Part(module, shape, f"{type(module).__name__} {like} {_by(shape)} to {outs}"))

    handles = [module.register_forward_hook(see) for module in _whole(net)]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _whole(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, Edge):
            continue
        if any(isinstance(inner, nn.ModuleList) for inner in child.modules()):
            yield from _whole(child)
        else:
            yield child


def _by(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(map(str, shape))
