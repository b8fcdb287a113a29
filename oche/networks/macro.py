"""The network around the cells of DARTS: stem, where the map halves and widens, head. Supernets and final networks share it.

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.networks.backbone import FeatureMap

Stem = Literal["cifar", "stride2", "stride4", "imagenet", "none"]
STRIDES: dict[str, int] = {"none": 1, "cifar": 1, "stride2": 2, "stride4": 4, "imagenet": 8}  # image side / map side
Widen = Literal["at", "after"]


@dataclass(frozen=True)
class CellPlan:
    """The place of one cell in the network: its kind, the widths of its inputs, its own width, the size (H, W) of its output."""

    kind: str  # "normal" or "reduce"
    previous_reduced: bool  # whether the map of its first input is twice the size of the second
    c_prev_prev: int  # channels of its first input
    c_prev: int  # channels of its second input
    channels: int  # channels of each of its nodes
    size: tuple[int, int]

    @property
    def stride(self) -> int:
        """The stride of the edges that leave the cell's inputs."""
        return 2 if self.kind == "reduce" else 1


class NetworkSizes(Protocol):
    """The sizes of a network, as every network description has them."""

    @property
    def image(self) -> tuple[int, int]: ...


def check_sizes(network: NetworkSizes) -> None:
    """Raise `OcheError` for a network without channels, cells, classes or image channels, or with images below 8 × 8."""
    for name in ("channels", "cells", "classes", "in_channels"):
        if getattr(network, name) < 1:
            raise OcheError(f"{name}={getattr(network, name)} leaves nothing to build; use {name} >= 1")
    if min(network.image) < 8:
        raise OcheError(f"image={network.image} is smaller than this space handles; use images of at least 8 x 8")


@dataclass(frozen=True)
class Skeleton:
    """The macro-architecture of DARTS (1806.09055 §3.1) and its variants, which the fields describe.

    Raises `OcheError` for impossible sizes, an unknown stem or widening, and reductions outside the network.
    """

    channels: int  # C, the width of a cell before the first reduction
    cells: int
    classes: int
    in_channels: int = 3
    image: tuple[int, int] = (32, 32)  # (H, W); matters only for descriptions and for an MLP head
    stem: Stem = "cifar"  # "cifar": 3×3 convolution; "stride2", "stride4"; "imagenet": stride 8; "none"
    reductions: tuple[int, ...] | None = None  # indices of the cells that halve the map; None: ⌊N/3⌋ and ⌊2N/3⌋
    widen: Widen = "at"  # the width doubles in the reduction cell ("at") or in the cell after it
    head: tuple[
        int, ...
    ] = ()  # (): global pooling and one linear layer; (2048, 1024, 256): an MLP on the flattened map

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.stem not in STRIDES:
            raise OcheError(f"stem={self.stem!r} is unknown; use {', '.join(map(repr, STRIDES))}")
        if self.widen not in ("at", "after"):
            raise OcheError(f"widen={self.widen!r} is unknown; use 'at' or 'after'")
        if bad := [i for i in self.reductions or () if not 0 <= i < self.cells]:
            raise OcheError(f"reductions={self.reductions} names cell {bad[0]} of {self.cells}; cells count from 0")

    @property
    def reduces_at(self) -> tuple[int, ...]:
        """The indices of the reduction cells, sorted."""
        if self.reductions is not None:
            return tuple(sorted(set(self.reductions)))
        return tuple(sorted({self.cells // 3, 2 * self.cells // 3}))

    def plan(self, outputs: Callable[[str], int]) -> list[CellPlan]:
        """Return the plan of each cell, in order.

        ``outputs(kind)`` is the number of nodes that a cell of that kind concatenates.
        """
        widths = {"imagenet": self.channels, "none": self.in_channels}
        c_prev_prev = c_prev = widths.get(self.stem, 3 * self.channels)
        size = halve(self.image, STRIDES[self.stem].bit_length() - 1)
        reduced, channels, plans = self.stem == "imagenet", self.channels, []
        for i in range(self.cells):
            kind = "reduce" if i in self.reduces_at else "normal"
            if (kind == "reduce" and self.widen == "at") or (i and reduced and self.widen == "after"):
                channels *= 2
            size = halve(size) if kind == "reduce" else size
            plans.append(CellPlan(kind, reduced, c_prev_prev, c_prev, channels, size))
            c_prev_prev, c_prev, reduced = c_prev, outputs(kind) * channels, kind == "reduce"
        return plans

    def feature_maps(self, outputs: Callable[[str], int]) -> list[FeatureMap]:
        """Return the feature maps that the network computes: both inputs of the first cell, then the output of each cell."""
        c = self.channels
        maps = {
            "none": [FeatureMap("", self.in_channels, 1)] * 2,
            "imagenet": [FeatureMap("stem.first", c, 4), FeatureMap("stem.second", c, 8)],
        }.get(self.stem, [FeatureMap("stem", 3 * c, STRIDES[self.stem])] * 2)
        reduction = maps[-1].reduction
        for i, plan in enumerate(self.plan(outputs)):
            reduction *= plan.stride
            maps.append(FeatureMap(f"cells.{i}", outputs(plan.kind) * plan.channels, reduction))
        return maps

    def make_stem(self) -> nn.Module:
        """Return a module that maps images (B, in_channels, H, W) to the two inputs of the first cell."""
        return {"cifar": CifarStem, "imagenet": ImagenetStem, "none": NoStem}.get(self.stem, StridedStem)(self)

    def make_head(self, c_prev: int, size: tuple[int, int]) -> nn.Module:
        """Return a module that maps (B, c_prev, H, W), with (H, W) = ``size``, to logits (B, classes)."""
        if not self.head:
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_prev, self.classes))
        layers: list[nn.Module] = [nn.Flatten()]
        width = c_prev * size[0] * size[1]
        for hidden in self.head:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        return nn.Sequential(*layers, nn.Linear(width, self.classes))


def halve(size: tuple[int, int], times: int = 1) -> tuple[int, int]:
    """Return the size (H, W) of a map after ``times`` convolutions of stride 2."""
    for _ in range(times):
        size = (size[0] + 1) // 2, (size[1] + 1) // 2
    return size


def _conv_bn(c_in: int, c_out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)]


class NoStem(nn.Module):
    """No stem: both inputs of the first cell are the images (the seed document's variant)."""

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class CifarStem(nn.Sequential):
    """3×3 convolution to 3C channels and BatchNorm. Both inputs of the first cell are its output."""

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__(*_conv_bn(skeleton.in_channels, 3 * skeleton.channels))

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        out = super().forward(input)
        return out, out


def strided_convs(in_channels: int, width: int, stride: int) -> list[nn.Module]:
    """Return the layers of a stem of ``stride`` 1, 2 or 4: 3×3 convolutions and BatchNorms, ReLU between them, to ``width``."""
    if stride < 4:
        return _conv_bn(in_channels, width, stride)
    half = max(1, width // 2)
    return [*_conv_bn(in_channels, half, 2), nn.ReLU(), *_conv_bn(half, width, 2)]


class StridedStem(CifarStem):
    """One 3×3 convolution of stride 2, or two for stride 4, to 3C channels. Both inputs of the first cell are its output.

    For images above 32 × 32: a network on maps of a quarter of the pixels takes a quarter of the time. The published
    ImageNet stem, of stride 8, is made for 224 × 224.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        nn.Sequential.__init__(
            self, *strided_convs(skeleton.in_channels, 3 * skeleton.channels, STRIDES[skeleton.stem])
        )


class ImagenetStem(nn.Module):
    """Three 3×3 convolutions of stride 2. The inputs of the first cell are the outputs of the second and of the third."""

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        c = skeleton.channels
        half = max(1, c // 2)
        self.first = nn.Sequential(*_conv_bn(skeleton.in_channels, half, 2), nn.ReLU(), *_conv_bn(half, c, 2))
        self.second = nn.Sequential(nn.ReLU(), *_conv_bn(c, c, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        return first, self.second(first)


def describe(skeleton: Skeleton, plans: Sequence[CellPlan], outputs: Callable[[str], int]) -> list[dict]:
    """Return one row for each part of the network, for reports: {"name", "channels", "size"}."""
    rows = (
        [{"name": "stem", "channels": plans[0].c_prev, "size": list(skeleton.image)}] if skeleton.stem != "none" else []
    )
    if rows:
        rows[0]["size"] = list(halve(skeleton.image, STRIDES[skeleton.stem].bit_length() - 1))
    rows += [{"name": p.kind, "channels": outputs(p.kind) * p.channels, "size": list(p.size)} for p in plans]
    return [*rows, {"name": "head", "channels": skeleton.classes, "size": [1, 1]}]
