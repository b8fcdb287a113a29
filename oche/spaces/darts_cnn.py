"""The DARTS space of convolutional networks: its cells, its supernet, and its architectures.

Shapes: E edges of a cell, O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from oche.core.architecture import NONE, Cell, Dag, Genotype, Mix, Shape, all_alive, cell_from_mask, top_k
from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.networks.forms import FormModule
from oche.networks.macro import CellPlan, Skeleton, Stem, Widen, describe
from oche.networks.operations import DARTS_CANDIDATES, SEED_CANDIDATES, FactorizedReduce, find_operation, relu_conv_bn
from oche.spaces.base import Space
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge


class SearchCell(FormModule):
    """A cell with a mixed operation on every edge. Its output is all intermediate nodes, concatenated.

    Maps two inputs (B, c_prev_prev, ·, ·) and (B, c_prev, ·, ·) to (B, nodes · channels, H, W).
    """

    kind: str

    def __init__(self, space: ConvSpace, plan: CellPlan, edge: EdgeBuilder) -> None:
        super().__init__()
        self.kind, self.dag, self.stride = plan.kind, space.dag, plan.stride
        self.preprocess0 = _preprocess(plan.c_prev_prev, plan, plan.previous_reduced, space.affine)
        self.preprocess1 = _preprocess(plan.c_prev, plan, False, space.affine)
        self.edges = nn.ModuleList(
            edge(space, Shape.same(plan.channels, plan.stride if source < self.dag.inputs else 1))
            for source, _ in self.dag.edges
        )

    def forward(self, s0: Tensor, s1: Tensor, mix: Mix) -> Tensor:
        """Return the output (B, nodes · channels, H, W) for the outputs ``s0`` and ``s1`` of the two cells before this one."""
        inputs = [self.form.apply(self.preprocess0, s0), self.form.apply(self.preprocess1, s1)]
        states = self.form.flow(self.dag, self.edges, inputs, mix, self.stride)
        return torch.cat(states[self.dag.inputs :], 1)


def _preprocess(c_in: int, plan: CellPlan, halve: bool, affine: bool) -> nn.Module:
    """Return the module that brings an input of ``c_in`` channels to the width of the cell, with ``halve`` at half the size."""
    build = FactorizedReduce if halve else relu_conv_bn
    return build(c_in, plan.channels, affine)


@checked
class Supernet(nn.Module):
    """The network that holds every architecture of a space. In the plain form it is the reference for all faster forms.

    ``net(x, {"normal": mix, "reduce": mix})`` maps images (B, in_channels, H, W) to logits (B, classes).
    """

    def __init__(self, space: ConvSpace, edge: EdgeBuilder) -> None:
        super().__init__()
        skeleton, plans = space.skeleton, space.plans
        self.stem = skeleton.make_stem()
        self.cells = nn.ModuleList(SearchCell(space, plan, edge) for plan in plans)
        self.head = skeleton.make_head(space.dag.nodes * plans[-1].channels, plans[-1].size)

    def forward(self, x: Tensor, mixes: Mapping[str, Mix]) -> Tensor:
        """Return logits (B, classes) for images x and the mix of each cell type."""
        s0, s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, mixes[str(cell.kind)])
        return self.head(s1)


@component
@dataclass(frozen=True)
class ConvSpace(Space):
    """The DARTS space (1806.09055 §3.1) and, by its fields, its variants.

    Raises `OcheError` for unknown or repeated candidates and for impossible sizes.
    """

    channels: int = 16
    """width of a cell before the first reduction"""
    cells: int = 8
    """cells in the supernet"""
    nodes: int = 4
    """intermediate nodes of a cell"""
    keep: int = 2
    """incoming edges kept per node when the cell is discretised"""
    candidates: tuple[str, ...] = DARTS_CANDIDATES
    """operations to choose from (see `oche list operations`); logits have a column for each, in this order"""
    classes: int = 10
    """filled in from the data by the command line"""
    in_channels: int = 3
    """filled in from the data by the command line"""
    image: tuple[int, int] = (32, 32)
    """height and width; filled in from the data by the command line"""
    stem: Stem = "cifar"
    """the layers before the first cell: cifar, imagenet or none"""
    reductions: tuple[int, ...] | None = None
    """cells that halve the map; by default the ⌊N/3⌋-th and the ⌊2N/3⌋-th"""
    widen: Widen = "at"
    """whether width doubles in the reduction cell, or in the cell after it"""
    head: tuple[int, ...] = ()
    """hidden widths of an MLP on the flattened map; empty: global pooling and one linear layer"""
    affine: bool = False
    """whether BatchNorms in cells learn scale and shift"""
    pool_norm: bool = True
    """whether candidates that do not normalise their output (pools) are followed by a BatchNorm"""

    def __post_init__(self) -> None:
        for name in self.candidates:
            find_operation(name)
        if len(set(self.candidates)) != len(self.candidates):
            raise OcheError(f"candidates={self.candidates} names one twice; list each operation once")
        if not [c for c in self.candidates if c != NONE]:
            raise OcheError("candidates must name at least one operation other than 'none'")
        _ = self.dag, self.skeleton  # they check their sizes

    @cached_property
    def dag(self) -> Dag:
        """The graph of every cell."""
        return Dag(self.nodes, 2, self.keep)

    @property
    def groups(self) -> dict[str, Dag]:
        """The graph of each cell to be found, by name. A network without reduction cells has no "reduce"."""
        return {kind: self.dag for kind in ("normal", "reduce") if any(p.kind == kind for p in self.plans)}

    @cached_property
    def skeleton(self) -> Skeleton:
        """The network around the cells."""
        return Skeleton(
            self.channels, self.cells, self.classes, self.in_channels, self.image,
            self.stem, self.reductions, self.widen, self.head,
        )  # fmt: skip

    @property
    def plans(self) -> list[CellPlan]:
        """The plan of each cell of the supernet, in order."""
        return self.skeleton.plan(lambda kind: self.nodes)

    def candidate(self, name: str, shape: Shape) -> nn.Module:
        """Build operation ``name`` as the supernet uses it: with ``pool_norm`` a BatchNorm follows operations without one."""
        op = find_operation(name)
        module = op.build(shape.c_in, shape.stride, self.affine)
        if op.normalised or not self.pool_norm:
            return module
        return nn.Sequential(module, nn.BatchNorm2d(shape.c_out, affine=False))

    def supernet(self, edge: EdgeBuilder = MixedEdge()) -> Supernet:
        """Build a new supernet; ``edge`` builds the module of each edge. Raises `OcheError` if it cannot."""
        edge.check(self)
        return Supernet(self, edge)

    def genotype(self, alphas: Mapping[str, Tensor]) -> Genotype:
        """Discretise logits (E, O), by cell name: softmax, then `top_k`. Raises `OcheError` for other shapes."""
        kept = {}
        for name, dag in self.groups.items():
            want = (len(dag), len(self.candidates))
            if name not in alphas or tuple(alphas[name].shape) != want:
                found = tuple(alphas[name].shape) if name in alphas else "nothing"
                raise OcheError(f"genotype needs logits of shape {want} for the {name!r} cell; found {found}")
            strength = alphas[name].detach().double().softmax(1)
            kept[name] = top_k(strength, all_alive(dag, len(self.candidates)), dag, self.candidates)
        return self.read(kept)

    def read(self, kept: Mapping[str, Tensor]) -> Genotype:
        """Return the genotype of narrowed masks (E, O), by cell name."""
        return Genotype({name: cell_from_mask(kept[name], dag, self.candidates) for name, dag in self.groups.items()})

    def random(self, generator: torch.Generator) -> Genotype:
        """Draw the cells uniformly: for each node ``keep`` distinct sources, on each edge any candidate but "none"."""
        names = [c for c in self.candidates if c != NONE]

        def random_cell(dag: Dag) -> Cell:
            edges = []
            for incoming in dag.incoming:
                sources = torch.randperm(len(incoming), generator=generator)[: dag.keep].sort().values.tolist()
                ops = torch.randint(len(names), (len(sources),), generator=generator).tolist()
                edges += [(names[o], *dag.edges[incoming[i]]) for i, o in zip(sources, ops, strict=True)]
            return Cell(tuple(edges), tuple(range(dag.inputs, dag.inputs + dag.nodes)))

        return Genotype({name: random_cell(dag) for name, dag in self.groups.items()})

    def describe(self) -> list[dict]:
        """Return one row for each part of the supernet, for reports: {"name", "channels", "size"}."""
        return describe(self.skeleton, self.plans, lambda kind: self.nodes)


@checked
def darts(**fields) -> ConvSpace:
    """The published space: 4 nodes, 8 operations to choose from, 2 edges kept per node.

    ``fields`` override the values of `ConvSpace`: ``darts(channels=16, cells=8, classes=10)``.
    """
    return ConvSpace(**fields)


@checked
def seed(**fields) -> ConvSpace:
    """The seed document's variant (its §4.2 and appendix A): 3 nodes, no stem, N N R N N R N N, an MLP head, logits' order
    of its code, BatchNorm with scale and shift, pools without one.

    ``fields`` override the values of `ConvSpace`. Deviations from its code, which differs there from the operations that
    its text cites: (1) skip connections of stride 2 are FactorizedReduce; (2) average pooling does not count the padding;
    (3) every BatchNorm has eps 1e-5.
    """
    fixed = dict(
        nodes=3,
        candidates=SEED_CANDIDATES,
        stem="none",
        widen="after",
        head=(2048, 1024, 256),
        affine=True,
        pool_norm=False,
    )
    return ConvSpace(**{**fixed, **fields})
