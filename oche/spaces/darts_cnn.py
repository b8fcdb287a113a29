"""The DARTS convolutional space: cells of mixed operations, the supernet, and what its architectures are.

Shapes: E edges of a cell, O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from oche.core.architecture import NONE, Cell, Dag, Genotype, Mix, all_alive, cell_from_mask, top_k
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.networks.forms import FormModule
from oche.networks.macro import CellPlan, Skeleton, Stem, Widen, describe
from oche.networks.operations import DARTS, SEED, FactorizedReduce, find_operation, relu_conv_bn
from oche.spaces.base import Space
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge


class SearchCell(FormModule):
    """A cell with a mixed operation on every edge; its output concatenates all intermediate nodes."""

    kind: str

    def __init__(self, space: ConvSpace, plan: CellPlan, edge: EdgeBuilder) -> None:
        super().__init__()
        self.kind, self.dag, self.stride = plan.kind, space.dag, plan.stride
        self.preprocess0 = _preprocess(plan.c_prev_prev, plan, plan.previous_reduced, space.affine)
        self.preprocess1 = _preprocess(plan.c_prev, plan, False, space.affine)
        self.edges = nn.ModuleList(
            edge(space, plan.channels, plan.stride if source < self.dag.inputs else 1) for source, _ in self.dag.edges
        )

    def forward(self, s0: Tensor, s1: Tensor, mix: Mix) -> Tensor:
        inputs = [self.form.apply(self.preprocess0, s0), self.form.apply(self.preprocess1, s1)]
        return torch.cat(self.form.flow(self.dag, self.edges, inputs, mix, self.stride)[self.dag.inputs :], 1)


def _preprocess(c_in: int, plan: CellPlan, halve: bool, affine: bool) -> nn.Module:
    build = FactorizedReduce if halve else relu_conv_bn
    return build(c_in, plan.channels, affine)


class Supernet(nn.Module):
    """Every architecture of a space in one network of plain operations: the oracle of every faster form.

    ``net(x, {"normal": mix, "reduce": mix})`` maps (B, in_channels, H, W) to logits (B, classes).
    """

    def __init__(self, space: ConvSpace, edge: EdgeBuilder) -> None:
        super().__init__()
        skeleton, plans = space.skeleton, space.plans
        self.stem = skeleton.make_stem()
        self.cells = nn.ModuleList(SearchCell(space, plan, edge) for plan in plans)
        self.head = skeleton.make_head(space.dag.nodes * plans[-1].channels, plans[-1].size)

    def forward(self, x: Tensor, mixes: Mapping[str, Mix]) -> Tensor:
        s0, s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, mixes[str(cell.kind)])
        return self.head(s1)


@component
@dataclass(frozen=True)
class ConvSpace(Space):
    """The DARTS space (1806.09055 §3.1) and, by its fields, the variants in use."""

    channels: int = 16
    """width of a cell before the first reduction"""
    cells: int = 8
    """cells in the supernet"""
    nodes: int = 4
    """intermediate nodes of a cell"""
    keep: int = 2
    """incoming edges kept per node when the cell is discretised"""
    candidates: tuple[str, ...] = DARTS
    """operations to choose from (see `oche list operations`); logits have one column for each, in this order"""
    classes: int = 10
    """filled in from the data by the command line"""
    in_channels: int = 3
    """filled in from the data by the command line"""
    image: tuple[int, int] = (32, 32)
    """height and width; filled in from the data by the command line"""
    stem: Stem = "cifar"
    """what stands before the first cell"""
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
        _ = self.dag, self.skeleton  # their own checks

    @cached_property
    def dag(self) -> Dag:
        return Dag(self.nodes, 2, self.keep)

    @property
    def groups(self) -> dict[str, Dag]:
        """The cells to be found, by name; a network without a reduction cell has no "reduce"."""
        return {kind: self.dag for kind in ("normal", "reduce") if any(p.kind == kind for p in self.plans)}

    @cached_property
    def skeleton(self) -> Skeleton:
        return Skeleton(
            self.channels, self.cells, self.classes, self.in_channels, self.image,
            self.stem, self.reductions, self.widen, self.head,
        )  # fmt: skip

    @property
    def plans(self) -> list[CellPlan]:
        return self.skeleton.plan(lambda kind: self.nodes)

    def candidate(self, name: str, channels: int, stride: int) -> nn.Module:
        """Operation ``name`` as it stands in the supernet."""
        op = find_operation(name)
        module = op.build(channels, stride, self.affine)
        if op.normalised or not self.pool_norm:
            return module
        return nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))

    def supernet(self, edge: EdgeBuilder = MixedEdge()) -> Supernet:
        """A fresh supernet; ``edge`` builds what stands on each edge. Raises `OcheError` where it cannot stand there."""
        edge.check(self)
        return Supernet(self, edge)

    def genotype(self, alphas: Mapping[str, Tensor]) -> Genotype:
        """Discretises logits (E, O) by cell name: softmax, then `oche.core.architecture.top_k`. Raises `OcheError` on other shapes."""
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
        """The genotype that narrowed masks (E, O) stand for."""
        return Genotype({name: cell_from_mask(kept[name], dag, self.candidates) for name, dag in self.groups.items()})

    def random(self, generator: torch.Generator) -> Genotype:
        """A cell of the space drawn uniformly: for each node ``keep`` distinct sources, on each any candidate but "none"."""
        names = [c for c in self.candidates if c != NONE]

        def cell(dag: Dag) -> Cell:
            edges = []
            for incoming in dag.incoming:
                drawn = torch.randperm(len(incoming), generator=generator)[: dag.keep].sort().values.tolist()
                ops = torch.randint(len(names), (len(drawn),), generator=generator).tolist()
                edges += [(names[o], *dag.edges[incoming[i]]) for i, o in zip(drawn, ops, strict=True)]
            return Cell(tuple(edges), tuple(range(dag.inputs, dag.inputs + dag.nodes)))

        return Genotype({name: cell(dag) for name, dag in self.groups.items()})

    def describe(self) -> list[dict]:
        """One row a part of the supernet, for reports: {"name", "channels", "size"}."""
        return describe(self.skeleton, self.plans, lambda kind: self.nodes)


def darts(**fields) -> ConvSpace:
    """The published space: 4 nodes, 8 operations to choose from, 2 edges kept per node; fields of `ConvSpace` override its
    values: ``darts(channels=16, cells=8, classes=10)``."""
    return ConvSpace(**fields)


def seed(**fields) -> ConvSpace:
    """The seed document's variant (its §4.2 and appendix A): 3 nodes, no stem, N N R N N R N N, an MLP head, logits' order
    of its code, BatchNorm with scale and shift, pools without one.

    Deviations from its code, which differs there from the operations that its text cites: (1) skip connections of stride 2
    are FactorizedReduce; (2) average pooling does not count the padding; (3) every BatchNorm has eps 1e-5.
    """
    fixed = dict(
        nodes=3, candidates=SEED, stem="none", widen="after", head=(2048, 1024, 256), affine=True, pool_norm=False
    )
    return ConvSpace(**{**fixed, **fields})
