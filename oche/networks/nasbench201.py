"""The network of NAS-Bench-201 (Dong & Yang, ICLR 2020, 2001.00326 §2): a stem, three stages of one cell, a head.

Details beyond the paper follow its released code, D-X-Y/AutoDL-Projects (xautodl/models: cell_operations,
cell_infers/tiny_network). Deviation 2 from it: where the map shrinks, an odd side keeps its last pixel; the released code
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
from oche.core.nasbench201 import CELL, parse
from oche.networks.backbone import FeatureMap
from oche.networks.drop_path import DropPathNetwork, EdgeFactors, apply_drop_path
from oche.networks.forms import DiscreteCell, FormModule
from oche.networks.macro import STRIDES, Stem, check_sizes, halve, strided_convs
from oche.networks.operations import Pointwise, find_operation, operation

STAGES = 3
STEMS: tuple[Stem, ...] = ("cifar", "stride2", "stride4")


def _relu_conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, affine: bool = True) -> list[nn.Module]:
    """Return ReLU, convolution, BatchNorm."""
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
    """Halves the map between two stages: two 3×3 convolutions, plus a shortcut of average pooling and a 1×1 convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*_relu_conv_bn(c_in, c_out, 3, 2), *_relu_conv_bn(c_out, c_out, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(c_in, c_out, 1, bias=False))

        self.final = False  # whether it belongs to a final network

    def forward(self, x: Tensor) -> Tensor:
        apply = self.form.apply_final if self.final else self.form.apply
        return self.shortcut(x) + apply(self.convs, x)


@dataclass(frozen=True)
class Place:
    """The place of a cell in the network: its width and the size (H, W) of its map. Its edges never shrink the map."""

    channels: int
    size: tuple[int, int]
    kind: str = CELL
    stride: int = 1


@dataclass(frozen=True)
class Macro:
    """The network around the cells: a stem, and three stages of ``cells`` cells with a `ResidualBlock` between them.

    The published stem is a 3×3 convolution, "cifar". Raises `OcheError` for impossible sizes and other stems than "cifar",
    "stride2" and "stride4".
    """

    channels: int
    cells: int
    classes: int
    in_channels: int
    image: tuple[int, int]
    stem: Stem = "cifar"

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.stem not in STEMS:
            raise OcheError(
                f"the network of NAS-Bench-201 has no stem {self.stem!r}; use {', '.join(map(repr, STEMS))}"
            )

    @property
    def stages(self) -> list[Place]:
        """The place of the cells in each stage."""
        places, size = [], halve(self.image, self.stem_stride.bit_length() - 1)
        for stage in range(STAGES):
            places.append(Place(self.channels * 2**stage, size))
            size = halve(size)
        return places

    @property
    def stem_stride(self) -> int:
        """The side of the image divided by the side of the stem's output."""
        return STRIDES[self.stem]

    @property
    def feature_maps(self) -> list[FeatureMap]:
        """The feature maps that the network computes: the stem's output, then that of each cell and residual block."""
        found = [FeatureMap("stem", self.channels, self.stem_stride)]
        for stage, place in enumerate(self.stages):
            for _ in range(self.cells + (stage > 0)):
                found.append(FeatureMap(f"cells.{len(found) - 1}", place.channels, self.stem_stride * 2**stage))
        return found

    def describe(self) -> list[dict]:
        """Return one row for each part of the network, for reports: {"name", "channels", "size"}."""
        rows = [{"name": "stem", "channels": self.channels, "size": list(self.stages[0].size)}]
        for i, place in enumerate(self.stages):
            part = {"channels": place.channels, "size": list(place.size)}
            rows += [{"name": "residual", **part}] if i else []
            rows += [{"name": CELL, **part}] * self.cells
        return [*rows, {"name": "head", "channels": self.classes, "size": [1, 1]}]


def maps(stem: nn.Module, cells: Iterable[nn.Module], x: Tensor, context: Any) -> Iterator[Tensor]:
    """Yield the output of the stem, then that of each cell and residual block; `Macro.feature_maps` describes them.

    ``context`` is passed to the cells: a mix in a supernet, the factors of drop path in a final network.
    """
    x = stem(x)
    yield x
    for part in cells:
        x = part(x) if isinstance(part, ResidualBlock) else part(x, context)
        yield x


class Network(nn.Module):
    """A stem, cells and residual blocks in order, and a head. ``cell(place)`` builds a cell."""

    def __init__(self, macro: Macro, cell: Callable[[Place], nn.Module]) -> None:
        super().__init__()
        self.macro = macro
        c, stages = macro.channels, macro.stages
        self.stem = nn.Sequential(*strided_convs(macro.in_channels, c, macro.stem_stride))
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
        """Map images (B, in_channels, H, W) to logits (B, classes). ``context`` is passed to the cells."""
        last = x
        for last in maps(self.stem, self.cells, x, context):  # noqa: B007
            pass
        return self.head(last)


class FinalCell(DiscreteCell):
    """A discrete cell: maps (B, C, H, W) to the state of its output node, of the same shape."""

    def __init__(self, cell: Cell, channels: int) -> None:
        super().__init__()
        self.cell = cell
        self.ops = nn.ModuleList(find_operation(op).build(channels, 1, True) for op, _, _ in cell.edges)

    def forward(self, x: Tensor, factors: EdgeFactors) -> Tensor:
        """Return the state of the output node for x (B, C, H, W). ``factors``: those of drop path, one edge after another."""
        if (whole := self.form.discrete(self, [x], factors)) is not None:
            return whole
        states = {0: x}
        for op, (_, source, target) in zip(self.ops, self.cell.edges, strict=True):
            out = apply_drop_path(self.form.apply_final(op, states[source]), op, factors)
            states[target] = out if target not in states else states[target] + out
        return states[self.cell.concat[0]]


class FinalNetwork(Network, DropPathNetwork):
    """The network of one cell as the benchmark trained it: maps images (B, in_channels, H, W) to logits (B, classes)."""

    maps = staticmethod(maps)

    def __init__(self, genotype: Genotype, macro: Macro, drop_path: float = 0.0) -> None:
        super().__init__(macro, lambda place: FinalCell(genotype.cells[CELL], place.channels))
        self.genotype, self.drop_path = genotype, drop_path
        for block in self.cells:
            if isinstance(block, ResidualBlock):
                block.final = True

    def forward(self, x: Tensor, drops: Tensor | None = None) -> Tensor:
        """``drops`` (D, B): the factors of drop path, drawn anew by default; see `DropPathNetwork.drops`."""
        return self.run(x, self.edge_factors(x, drops))

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.macro.in_channels

    @property
    def feature_maps(self) -> list[FeatureMap]:
        """The feature maps that the network computes, in order."""
        return self.macro.feature_maps

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
    stem: Stem = "cifar",
) -> FinalNetwork:
    """Build the network of a cell, given as a `Genotype` or as the benchmark's text. The defaults are the benchmark's.

    ``stem`` "stride2" or "stride4" shrinks images above 32 × 32 first.

    Raises `OcheError` for an unknown operation, impossible sizes or a genotype of another space.
    """
    if not 0 <= drop_path < 1:
        raise OcheError(f"drop_path={drop_path} is not a probability below 1; use 0 <= drop_path < 1")
    size = (image, image) if isinstance(image, int) else image
    return FinalNetwork(parse(genotype), Macro(channels, cells, classes, in_channels, size, stem), drop_path)
