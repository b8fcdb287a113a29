"""The space of chains: layers one after another, each a choice among blocks (ProxylessNAS, 1812.00332; FBNet, 1812.03443).

The layers are the edges of one group "chain", whose graph is a path. A layer may be left out ("none") where its input and
output have the same shape, since the identity beside it remains. In FBNet that choice is called skip: with weights that sum to
1, Σ m_o (o(x) + x) over the blocks plus m_skip x is Σ m_o o(x) + x.

Shapes: E layers, O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from oche.core.architecture import NONE, Genotype, Mix, PathDag, Shape, all_alive
from oche.core.arguments import checked
from oche.core.blocks import CHAIN, Block, chain_blocks, chain_genotype, choice_name
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.networks.chain import ChainLayer, ChainPlan, Place, build_block, make_head
from oche.networks.operations import Zero
from oche.spaces.base import Space
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge

SMALL = (NONE, "mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6")
PROXYLESS = (*SMALL, "mb_k7_e3", "mb_k7_e6")
FBNET = (NONE, "mb_k3_e1", "mb_k3_e1_g2", "mb_k3_e3", "mb_k3_e6", "mb_k5_e1", "mb_k5_e1_g2", "mb_k5_e3", "mb_k5_e6")


class SearchLayer(nn.Module):
    """A layer with a mixed operation, and the identity beside it where input and output have the same shape."""

    def __init__(self, space: ChainSpace, shape: Shape, edge: EdgeBuilder) -> None:
        super().__init__()
        self.shape, self.edges = shape, nn.ModuleList([edge(space, shape)])

    def forward(self, x: Tensor, weights: Tensor, active: tuple[int, ...], scale: Tensor | None = None) -> Tensor:
        """Return the output (B, c_out, ⌈H / stride⌉, ⌈W / stride⌉) for x (B, c_in, H, W).

        ``weights`` (O,): those of the candidates. ``active``: the indices of the candidates to evaluate. ``scale``: the weight
        of the edge, a scalar; None: 1.
        """
        out = self.edges[0](x, weights, active) if active else None
        if out is not None and scale is not None:
            out = scale * out
        if self.shape.keeps:
            return x if out is None else x + out
        if out is not None:
            return out
        small = x[:, :1, :: self.shape.stride, :: self.shape.stride]
        return torch.zeros_like(small).expand(-1, self.shape.c_out, -1, -1)


class Supernet(nn.Module):
    """The network that holds every chain of the space.

    ``net(x, {"chain": mix})`` maps images (B, in_channels, H, W) to logits (B, classes).
    """

    def __init__(self, space: ChainSpace, edge: EdgeBuilder) -> None:
        super().__init__()
        first, *before = space.fixed_places
        self.stem = build_block(first.block, first.shape)
        self.before = nn.ModuleList(ChainLayer(place.block, place.shape) for place in before)
        self.cells = nn.ModuleList(SearchLayer(space, shape, edge) for shape in space.shapes)
        self.head = make_head(space.last_place, space.classes)

    def forward(self, x: Tensor, mixes: Mapping[str, Mix]) -> Tensor:
        """Return logits (B, classes) for images x and the mix of the layers."""
        mix = mixes[CHAIN]
        scales = [None] * len(self.cells) if mix.edges is None else mix.edges.unbind()
        x = self.stem(x)
        for layer in self.before:
            x = layer(x)
        for layer, weights, active, scale in zip(self.cells, mix.ops.unbind(), mix.active, scales, strict=True):
            x = layer(x, weights, active, scale)
        return self.head(x)


@dataclass(frozen=True)
class WholeChain:
    """The position of all searched layers: one cell, whose edges have shapes of their own (`ChainSpace.edge_shapes`)."""

    channels: int
    stride: int
    kind: str = CHAIN


@component
@dataclass(frozen=True)
class ChainSpace(Space):
    """Chains of inverted residuals: in each layer a choice of kernel and expansion, or no layer. Widths are given.

    The default is small, for images of 32 × 32. Raises `OcheError` for unknown or repeated candidates, lists of different
    lengths, groups that do not divide a width, and strides that shrink the images to nothing.
    """

    recipe: ClassVar[str] = "chain"
    small: ClassVar[str] = "chain-small"
    method: ClassVar[str] = "proxyless"  # published for chains; it holds two paths in memory, not all

    first: tuple[str, ...] = ("conv_k3_c16", "mb_k3_e1_c16")
    """blocks before the searched layers, by their whole names; see `oche.core.blocks`"""
    widths: tuple[int, ...] = (24, 40, 80)
    """channels of the layers of each stage"""
    layers: tuple[int, ...] = (2, 3, 3)
    """layers of each stage, at most: all but the first of a stage may be left out"""
    strides: tuple[int, ...] = (1, 2, 2)
    """stride of the first layer of each stage"""
    last: str = "conv_k1_c256"
    """the convolution before the global average pool"""
    candidates: tuple[str, ...] = SMALL
    """blocks to choose from, by their names without stride and channels; logits have a column for each, in this order"""
    classes: int = 10
    """filled in from the data by the command line"""
    in_channels: int = 3
    """filled in from the data by the command line"""
    image: tuple[int, int] = (32, 32)
    """height and width; filled in from the data by the command line"""
    affine: bool = True
    """whether BatchNorms of candidates learn scale and shift"""

    def __post_init__(self) -> None:
        blocks = [Block.parse(name) for name in self.candidates if name != NONE]
        if not blocks or len(set(self.candidates)) != len(self.candidates):
            raise OcheError(f"candidates={self.candidates}: list at least one block, each once")
        if placed := [b.name for b in blocks if b.kind != "mb" or b.stride > 1 or b.channels is not None]:
            raise OcheError(
                f"candidates: {placed[0]!r} is no choice for every layer, whose stride and channels the space gives; "
                "write mb_k3_e6, say"
            )
        lengths = {len(self.widths), len(self.layers), len(self.strides)}
        if len(lengths) > 1 or not self.widths or min((*self.widths, *self.layers, *self.strides)) < 1:
            raise OcheError(
                f"widths={self.widths}, layers={self.layers}, strides={self.strides}: each stage has one of each, 1 or more"
            )
        if self.classes < 1 or self.in_channels < 1:
            raise OcheError(
                f"classes={self.classes}, in_channels={self.in_channels} leave nothing to build; use 1 or more"
            )
        _ = self._plan  # it checks the blocks and the strides
        with torch.device("meta"):  # groups must divide widths
            for block in blocks:
                for shape in {*self.shapes}:
                    build_block(block, shape)

    # --- the layers ---------------------------------------------------------------------------------------------------

    @cached_property
    def _plan(self) -> ChainPlan:
        """The chain with the first block of the candidates in every layer."""
        block = next(name for name in self.candidates if name != NONE)
        names = [self._name(block, width, stride) for width, stride in self._layers]
        return ChainPlan(chain_blocks(chain_genotype([*self.first, *names, self.last])), self.in_channels, self.image)

    @property
    def _layers(self) -> list[tuple[int, int]]:
        """(width, stride) of each searched layer."""
        stages = zip(self.widths, self.layers, self.strides, strict=True)
        return [(width, 1 if i else stride) for width, count, stride in stages for i in range(count)]

    @staticmethod
    def _name(choice: str, width: int, stride: int) -> str:
        """Return the name of a candidate in a genotype."""
        return NONE if choice == NONE else replace(Block.parse(choice), stride=stride, channels=width).name

    @property
    def fixed_places(self) -> tuple[Place, ...]:
        """The places of the blocks before the searched layers."""
        return self._plan.places[: len(self.first)]

    @property
    def last_place(self) -> Place:
        """The place of the last convolution."""
        return self._plan.places[-1]

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The shape of each searched layer."""
        return tuple(place.shape for place in self._plan.places[len(self.first) : -1])

    # --- the interface of a space -------------------------------------------------------------------------------------

    @cached_property
    def dag(self) -> PathDag:
        """The graph of the searched layers. Its nodes have the numbers that they have in a genotype."""
        return PathDag(len(self.shapes), len(self.first) + 1)

    @property
    def groups(self) -> dict[str, PathDag]:
        """The graph of the one group of layers."""
        return {CHAIN: self.dag}

    @property
    def plans(self) -> list[WholeChain]:
        """The position of all searched layers."""
        return [WholeChain(self.shapes[0].c_in, self.shapes[0].stride)]

    @property
    def edge_shapes(self) -> list[tuple[str, Shape]]:
        return [(f"layer {target}", shape) for (_, target), shape in zip(self.dag.edges, self.shapes, strict=True)]

    def alive(self, group: str) -> Tensor:
        """Return the mask (E, O): all candidates, and "none" only where input and output have the same shape."""
        mask = all_alive(self.dag, len(self.candidates))
        if NONE in self.candidates:
            mask[:, self.candidates.index(NONE)] = torch.tensor([shape.keeps for shape in self.shapes])
        return mask

    def candidate(self, name: str, shape: Shape) -> nn.Module:
        """Build block ``name`` as the supernet uses it, without the identity beside it."""
        return Zero(shape.stride) if name == NONE else build_block(Block.parse(name), shape, self.affine)

    def searched_operations(self, genotype: Genotype) -> set[str]:
        """Return the candidates that ``genotype`` has in the searched layers."""
        return {choice_name(op) for op, *edge in genotype.cells[CHAIN].edges if tuple(edge) in self.dag.edges}

    def final_operation(self, name: str, shape: Shape) -> nn.Module:
        """Build block ``name`` as a final network uses it, with the identity beside it."""
        return nn.Identity() if name == NONE else ChainLayer(Block.parse(name), shape)

    def supernet(self, edge: EdgeBuilder = MixedEdge()) -> Supernet:
        """Build a new supernet; ``edge`` builds the module of each layer. Raises `OcheError` if it cannot."""
        edge.check(self)
        return Supernet(self, edge)

    def read(self, kept: Mapping[str, Tensor]) -> Genotype:
        """Return the genotype of a narrowed mask (E, O), with the fixed blocks."""
        return self._genotype([row.index(True) for row in kept[CHAIN].tolist()])

    def _genotype(self, choices: list[int]) -> Genotype:
        """Return the genotype of the candidates with the numbers ``choices``, one for each layer."""
        named = zip(choices, self._layers, strict=True)
        names = [self._name(self.candidates[o], width, stride) for o, (width, stride) in named]
        return chain_genotype([*self.first, *names, self.last])

    def random(self, generator: torch.Generator) -> Genotype:
        """Draw a chain uniformly: in each layer any candidate that it has."""
        rows = [[o for o, on in enumerate(row) if on] for row in self.alive(CHAIN).tolist()]
        return self._genotype([row[int(torch.randint(len(row), (), generator=generator))] for row in rows])

    def describe(self) -> list[dict]:
        """Return one row for each part of the supernet, for reports: {"name", "channels", "size"}."""
        rows, fixed = self._plan.describe(self.classes), len(self.first)
        return [row | {"name": "choice"} if fixed <= i < len(rows) - 2 else row for i, row in enumerate(rows)]

    @classmethod
    def around(cls, genotype: Genotype, **fields) -> ChainSpace:
        """Return the space of the chains that differ from ``genotype`` in the blocks of its layers only.

        All but the first block and the last may differ. ``fields`` replace others, such as ``image``.
        """
        blocks = chain_blocks(genotype)
        first, last, width = blocks[0], blocks[-1], blocks[0].channels if blocks[0] else None
        widths, strides = [], []
        for block in blocks[1:-1]:
            width = width if block is None else block.channels
            widths.append(width)
            strides.append(1 if block is None else block.stride)
        assert first is not None and last is not None
        own = [block.choice for block in blocks[1:-1] if block is not None and block.kind == "mb"]
        candidates = tuple(dict.fromkeys([*PROXYLESS, *own]))
        sizes = dict(widths=tuple(widths), layers=(1,) * len(widths), strides=tuple(strides), candidates=candidates)
        if prod(block.stride for block in blocks if block is not None) >= 32:  # made for ImageNet
            sizes |= dict(image=(224, 224), classes=1000)
        return cls(**{**sizes, "first": (first.name,), "last": last.name, **fields})


@checked
def chain(**fields) -> ChainSpace:
    """Chains of inverted residuals, small, for images of 32 x 32: 8 layers, kernels 3 and 5, expansions 3 and 6.

    ``fields`` override the values of `ChainSpace`.
    """
    return ChainSpace(**fields)


@checked
def proxyless(**fields) -> ChainSpace:
    """The chains of ProxylessNAS (1812.00332) for images of 224 x 224: 21 layers, kernels 3, 5, 7 and expansions 3, 6.

    ``fields`` override the values of `ChainSpace`. Widths are those of the released search.
    """
    sizes = dict(
        first=("conv_k3_s2_c32", "mb_k3_e1_c16"), widths=(24, 40, 80, 96, 192, 320), layers=(4, 4, 4, 4, 4, 1),
        strides=(2, 2, 2, 1, 2, 1), last="conv_k1_c1280", candidates=PROXYLESS, image=(224, 224), classes=1000,
    )  # fmt: skip
    return ChainSpace(**{**sizes, **fields})


@checked
def fbnet(**fields) -> ChainSpace:
    """The chains of FBNet (1812.03443) for images of 224 x 224: 22 layers, 8 blocks, and skip where shapes agree.

    ``fields`` override the values of `ChainSpace`. Deviation 1: where shapes differ the released code has a 1×1 convolution
    in the place of skip, which no published network chose; here there is none.
    """
    sizes = dict(
        first=("conv_k3_s2_c16",), widths=(16, 24, 32, 64, 112, 184, 352), layers=(1, 4, 4, 4, 4, 4, 1),
        strides=(1, 2, 2, 2, 1, 2, 1), last="conv_k1_c1984", candidates=FBNET, image=(224, 224), classes=1000,
    )  # fmt: skip
    return ChainSpace(**{**sizes, **fields})
