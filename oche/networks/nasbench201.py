"""The network of NAS-Bench-201 (Dong & Yang, ICLR 2020, 2001.00326 §2): a stem, three stages of one cell, a head.

Facts beyond the paper are those of its released code, D-X-Y/AutoDL-Projects (xautodl/models: cell_operations,
cell_infers/tiny_network). Deviation 2 from it: where the map shrinks an odd side keeps its last pixel, the released code
fails there.

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from oche.core.architecture import Cell, Genotype, Mix
from oche.core.errors import OcheError
from oche.core.nasbench201 import CELL as GROUP
from oche.core.nasbench201 import parse
from oche.networks.backbone import FeatureMap
from oche.networks.drop_path import DropPathNetwork, EdgeFactors, apply_drop_path
from oche.networks.forms import FormModule
from oche.networks.macro import check_sizes
from oche.networks.operations import Pointwise, find_operation, operation

STAGES = 3


def _relu_conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, affine: bool = True) -> list[nn.Module]:
    conv = (
        Pointwise(c_in, c_out, stride)
        if kernel == 1
        else nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    )
    return [nn.ReLU(), conv, nn.BatchNorm2d(c_out, affine=affine)]


@operation("nor_conv_1x1")
def nor_conv_1x1(channels: int, stride: int, affine: bool) -> nn.Module:
    """1x1 convolution (NAS-Bench-201)"""
    return nn.Sequential(*_relu_conv_bn(channels, channels, 1, stride, affine))


@operation("nor_conv_3x3")
def nor_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """3x3 convolution (NAS-Bench-201)"""
    return nn.Sequential(*_relu_conv_bn(channels, channels, 3, stride, affine))


class ResidualBlock(FormModule):
    """Halves the map between two stages: two 3×3 convolutions beside an average pooling with a 1×1 convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*_relu_conv_bn(c_in, c_out, 3, 2), *_relu_conv_bn(c_out, c_out, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.form.apply(self.convs, x)


@dataclass(frozen=True)
class Place:
    """Where a cell stands. Its edges never shrink the map."""

    channels: int
    size: tuple[int, int]
    kind: str = GROUP
    stride: int = 1


@dataclass(frozen=True)
class Macro:
    """The network around the cells: 3 × 3 convolution, three stages of ``cells`` cells, a `ResidualBlock` between two."""

    channels: int
    cells: int
    classes: int
    in_channels: int
    image: tuple[int, int]

    def __post_init__(self) -> None:
        check_sizes(self)

    @property
    def stages(self) -> list[Place]:
        """Where the cells of each stage stand."""
        places, size = [], self.image
        for stage in range(STAGES):
            places.append(Place(self.channels * 2**stage, size))
            size = (size[0] + 1) // 2, (size[1] + 1) // 2
        return places

    @property
    def points(self) -> list[FeatureMap]:
        """The maps that the network computes: what the stem gives, then each cell and each residual block."""
        found = [FeatureMap("stem", self.channels, 1)]
        for stage, place in enumerate(self.stages):
            for _ in range(self.cells + (stage > 0)):
                found.append(FeatureMap(f"cells.{len(found) - 1}", place.channels, 2**stage))
        return found

    def describe(self) -> list[dict]:
        """One row a part, for reports: {"name", "channels", "size"}."""
        rows = [{"name": "stem", "channels": self.channels, "size": list(self.image)}]
        for i, place in enumerate(self.stages):
            part = {"channels": place.channels, "size": list(place.size)}
            rows += [{"name": "residual", **part}] if i else []
            rows += [{"name": GROUP, **part}] * self.cells
        return [*rows, {"name": "head", "channels": self.classes, "size": [1, 1]}]


def maps(stem: nn.Module, cells: Iterable[nn.Module], x: Tensor, context: Any) -> Iterator[Tensor]:
    """What the stem gives, then what each cell and residual block gives; see `Macro.points`."""
    x = stem(x)
    yield x
    for part in cells:
        x = part(x) if isinstance(part, ResidualBlock) else part(x, context)
        yield x


class Network(nn.Module):
    """Stem, cells and residual blocks in order, head. ``cell(place)`` builds a cell."""

    def __init__(self, macro: Macro, cell: Callable[[Place], nn.Module]) -> None:
        super().__init__()
        self.macro = macro
        c, stages = macro.channels, macro.stages
        self.stem = nn.Sequential(nn.Conv2d(macro.in_channels, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.cells = nn.ModuleList()
        for i, place in enumerate(stages):
            if i:
                self.cells.append(ResidualBlock(stages[i - 1].channels, place.channels))
            self.cells.extend(cell(place) for _ in range(macro.cells))
        last = stages[-1].channels
        self.head = nn.Sequential(
            nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, macro.classes)
        )

    def run(self, x: Tensor, context: Mix | EdgeFactors) -> Tensor:
        """(B, in_channels, H, W) → logits (B, classes); cells are also given ``context``."""
        last = x
        for last in maps(self.stem, self.cells, x, context):  # noqa: B007
            pass
        return self.head(last)


class FinalCell(FormModule):
    """A discrete cell."""

    def __init__(self, cell: Cell, channels: int) -> None:
        super().__init__()
        self.cell = cell
        self.ops = nn.ModuleList(find_operation(op).build(channels, 1, True) for op, _, _ in cell.edges)

    def forward(self, x: Tensor, drops: EdgeFactors) -> Tensor:
        states = {0: x}
        for op, (_, source, target) in zip(self.ops, self.cell.edges, strict=True):
            out = apply_drop_path(self.form.apply(op, states[source]), op, drops)
            states[target] = out if target not in states else states[target] + out
        return states[self.cell.concat[0]]


class FinalNetwork(Network, DropPathNetwork):
    """The network of one cell, as the benchmark trained it: maps (B, in_channels, H, W) to logits (B, classes)."""

    maps = staticmethod(maps)

    def __init__(self, genotype: Genotype, macro: Macro, drop_path: float = 0.0) -> None:
        super().__init__(macro, lambda place: FinalCell(genotype.cells[GROUP], place.channels))
        self.genotype, self.drop_path = genotype, drop_path

    def forward(self, x: Tensor, drops: Tensor | None = None) -> Tensor:
        """``drops`` (D, B): those of drop path, by default drawn anew; see `DropPathNetwork.drops`."""
        return self.run(x, self.rows(x, drops))

    @property
    def points(self) -> list[FeatureMap]:
        """The maps that it computes, in order."""
        return self.macro.points

    def describe(self) -> list[dict]:
        """One row a part, for reports: {"name", "channels", "size"}."""
        return self.macro.describe()


def build(
    genotype: Genotype | str,
    *,
    classes: int,
    channels: int = 16,
    cells: int = 5,
    in_channels: int = 3,
    image: int | tuple[int, int] = 32,
    drop_path: float = 0.0,
) -> FinalNetwork:
    """The network of a cell, a `Genotype` or the benchmark's text; the defaults are the benchmark's.

    Raises `OcheError` for an unknown operation, impossible sizes or a genotype of another space.
    """
    if not 0 <= drop_path < 1:
        raise OcheError(f"drop_path={drop_path} is no probability below 1; use 0 <= drop_path < 1")
    size = (image, image) if isinstance(image, int) else image
    return FinalNetwork(parse(genotype), Macro(channels, cells, classes, in_channels, size), drop_path)
