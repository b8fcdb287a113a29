"""The space of NAS-Bench-201 (Dong & Yang, ICLR 2020, 2001.00326 §2): one cell of 4 nodes and 6 edges, all of which are kept.

Details beyond the paper follow its released code, D-X-Y/AutoDL-Projects (xautodl/models: cell_operations,
cell_searchs/search_model_darts, cell_infers/tiny_network). Deviations from it:
(1) no bias in the convolutions of a supernet's candidates: the BatchNorm behind removes it, so it never has a gradient.
Deviation 2 is that of `oche.networks.nasbench201`.

Shapes: E edges of a cell, O candidates, B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from oche.core.architecture import Cell, Dag, Genotype, Mix, Shape, cell_from_mask
from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.nasbench201 import CELL, OPERATIONS
from oche.core.registry import component
from oche.networks.forms import FormModule
from oche.networks.nasbench201 import Macro, Network, Place
from oche.networks.operations import find_operation
from oche.spaces.base import Space
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge


class SearchCell(FormModule):
    """A cell with a mixed operation on every edge. Maps (B, C, H, W) to the state of its last node, of the same shape."""

    kind = CELL

    def __init__(self, space: NB201Space, place: Place, edge: EdgeBuilder) -> None:
        super().__init__()
        self.dag = space.dag
        self.edges = nn.ModuleList(edge(space, Shape.same(place.channels)) for _ in self.dag.edges)

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        return self.form.flow(self.dag, self.edges, [x], mix, 1)[-1]


class Supernet(Network):
    """The network that holds every cell of the space.

    ``net(x, {"cell": mix})`` maps images (B, in_channels, H, W) to logits (B, classes).
    """

    def __init__(self, space: NB201Space, edge: EdgeBuilder) -> None:
        super().__init__(space.macro, lambda place: SearchCell(space, place, edge))

    def forward(self, x: Tensor, mixes: Mapping[str, Mix]) -> Tensor:
        return self.run(x, mixes[CELL])


@component
@dataclass(frozen=True)
class NB201Space(Space):
    """The NAS-Bench-201 space: one cell of 6 edges with 5 candidates each. The accuracies of all 15,625 networks are known.

    Raises `OcheError` for unknown or repeated candidates and for impossible sizes.
    """

    recipe: ClassVar[str] = "nb201"

    channels: int = 16
    """width of a cell in the first stage"""
    cells: int = 5
    """cells in each of the three stages"""
    candidates: tuple[str, ...] = OPERATIONS
    """operations to choose from; logits have a column for each, in this order"""
    classes: int = 10
    """filled in from the data by the command line"""
    in_channels: int = 3
    """filled in from the data by the command line"""
    image: tuple[int, int] = (32, 32)
    """height and width; filled in from the data by the command line"""
    affine: bool = False
    """whether BatchNorms of candidates learn scale and shift"""
    track: bool = True
    """whether BatchNorms of candidates keep running statistics; otherwise they always normalise by the batch"""

    def __post_init__(self) -> None:
        for name in self.candidates:
            find_operation(name)
        if not self.candidates or len(set(self.candidates)) != len(self.candidates):
            raise OcheError(f"candidates={self.candidates}: list at least one operation, each once")
        _ = self.macro  # it checks its sizes

    @cached_property
    def dag(self) -> Dag:
        """The graph of the cell."""
        return Dag(nodes=3, inputs=1, keep=3, none=True)

    @property
    def groups(self) -> dict[str, Dag]:
        """The graph of the one cell to be found."""
        return {CELL: self.dag}

    @cached_property
    def macro(self) -> Macro:
        """The network around the cells."""
        return Macro(self.channels, self.cells, self.classes, self.in_channels, self.image)

    @property
    def plans(self) -> list[Place]:
        """The place of each cell of the supernet, in order."""
        return [place for place in self.macro.stages for _ in range(self.cells)]

    def candidate(self, name: str, shape: Shape) -> nn.Module:
        """Build operation ``name`` as the supernet uses it. No BatchNorm follows a pool, as in the released code."""
        module = find_operation(name).build(shape.c_in, shape.stride, self.affine)
        return module if self.track else _untracked(module)

    def supernet(self, edge: EdgeBuilder = MixedEdge()) -> Supernet:
        """Build a new supernet; ``edge`` builds the module of each edge. Raises `OcheError` if it cannot."""
        edge.check(self)
        return Supernet(self, edge)

    def read(self, kept: Mapping[str, Tensor]) -> Genotype:
        """Return the genotype of a narrowed mask (E, O). `oche.core.nasbench201.to_text` writes it as the benchmark does."""
        return Genotype({CELL: replace(cell_from_mask(kept[CELL], self.dag, self.candidates), concat=(3,))})

    def random(self, generator: torch.Generator) -> Genotype:
        """Draw a cell uniformly: on each edge any candidate, also "none"."""
        ops = torch.randint(len(self.candidates), (len(self.dag),), generator=generator).tolist()
        edges = [(self.candidates[o], *edge) for o, edge in zip(ops, self.dag.edges, strict=True)]
        return Genotype({CELL: Cell(tuple(edges), (3,))})

    def describe(self) -> list[dict]:
        """Return one row for each part of the supernet, for reports: {"name", "channels", "size"}."""
        return self.macro.describe()


def _untracked(module: nn.Module) -> nn.Module:
    """Return ``module`` with BatchNorms that normalise by the batch also in evaluation mode."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return module


@checked
def nb201(**fields) -> NB201Space:
    """NAS-Bench-201 (2001.00326): 4 nodes, 6 edges, 5 operations, all edges kept.

    ``fields`` override the values of `NB201Space`: ``nb201(channels=16, cells=5, classes=10)``.
    """
    return NB201Space(**fields)
