"""Networks that are chains of blocks: MobileNetV2 (1801.04381), ProxylessNAS (1812.00332), FBNet (1812.03443).

An inverted residual MB(c_in, c_out; kernel k, expansion e, stride s, groups g) is a 1×1 convolution to e · c_in channels, a
depthwise k × k convolution of stride s, and a 1×1 convolution to c_out. A BatchNorm follows each, and an activation the first
two. With e = 1 the first 1×1 convolution is left out. The identity is added where input and output have the same shape.

Deviation 1 from FBNet's released code: its activation is ReLU, here ReLU6 as in MobileNetV2, unless the block is named "_relu".

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from oche.core.architecture import Genotype, Shape
from oche.core.arguments import checked
from oche.core.blocks import Block, chain_blocks, round_channels
from oche.core.errors import OcheError
from oche.networks.backbone import FeatureMap
from oche.networks.drop_path import DropPathNetwork, EdgeFactors, apply_drop_path
from oche.networks.operations import Pointwise

EPSILON = 1e-3  # of BatchNorms, as in the released networks
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu6": nn.ReLU6, "relu": nn.ReLU, "swish": nn.SiLU}

# --- modules of a block -----------------------------------------------------------------------------------------------


class ChannelShuffle(nn.Module):
    """Exchange channels between ``groups`` of a map, so that the next grouped convolution reads from all of them."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) with its channels in the order 0, C/g, 2C/g …, 1, C/g + 1 …"""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a function of the means of all channels (1709.01507): C → C/4 → C, ReLU, hard sigmoid.

    The inner width is a multiple of 8. Both 1×1 convolutions have a bias.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = round_channels(channels / 4)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Hardsigmoid()
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) times its scales (B, C, 1, 1)."""
        return x * self.scale(x)


def _norm(channels: int, affine: bool) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, affine=affine)


def _pointwise(c_in: int, c_out: int, block: Block) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, groups=block.groups, bias=False)


def build_block(block: Block, shape: Shape, affine: bool = True) -> nn.Sequential:
    """Build ``block`` for ``shape``, without the identity beside it. ``affine``: whether BatchNorms learn scale and shift.

    Raises `OcheError` if its groups do not divide the channels.
    """
    act, (c_in, c_out, stride) = ACTIVATIONS[block.activation], shape
    if block.kind == "conv":
        kernel = block.kernel
        conv = Pointwise(c_in, c_out, stride) if kernel == 1 else nn.Conv2d(
            c_in, c_out, kernel, stride, kernel // 2, bias=False)  # fmt: skip
        return nn.Sequential(conv, _norm(c_out, affine), act())
    hidden = block.expansion * c_in
    for width, what in ((c_in, "input"), (hidden, "expanded"), (c_out, "output")):
        if width % block.groups:
            raise OcheError(
                f"block {block.name} has {width} {what} channels, which {block.groups} groups do not divide; "
                f"use widths that are multiples of {block.groups}"
            )
    layers: list[nn.Module] = []
    if block.expansion > 1:
        layers = [_pointwise(c_in, hidden, block), _norm(hidden, affine), act()]
    layers += [ChannelShuffle(block.groups)] if block.groups > 1 else []
    kernel = block.kernel
    layers += [
        nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
        _norm(hidden, affine),
        act(),
    ]
    layers += [SqueezeExcitation(hidden)] if block.squeeze else []
    return nn.Sequential(*layers, _pointwise(hidden, c_out, block), _norm(c_out, affine))


class ChainLayer(nn.Module):
    """A block with the identity beside it where input and output have the same shape."""

    def __init__(self, block: Block, shape: Shape) -> None:
        super().__init__()
        self.block, self.residual = build_block(block, shape), block.kind == "mb" and shape.keeps

    @property
    def ops(self) -> tuple[nn.Module, ...]:
        """The modules whose output drop path may drop: the block, where the identity remains without it."""
        return (self.block,) if self.residual else ()

    def forward(self, x: Tensor, factors: EdgeFactors = None) -> Tensor:
        """Return (B, c_out, ⌈H / stride⌉, ⌈W / stride⌉) for x (B, c_in, H, W). ``factors``: those of drop path."""
        out = self.block(x)
        return x + apply_drop_path(out, self.block, factors) if self.residual else out


# --- the whole network ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A block, its shape, and the size (H, W) of its output; ``number`` is its node in the genotype."""

    number: int
    block: Block
    shape: Shape
    size: tuple[int, int]


@dataclass(frozen=True)
class ChainPlan:
    """The shapes of a chain of ``blocks`` for images of one size. None among the blocks is a layer left out.

    Raises `OcheError` for images that the strides shrink to nothing.
    """

    blocks: tuple[Block | None, ...]
    in_channels: int
    image: tuple[int, int]

    def __post_init__(self) -> None:
        _ = self.places

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The place of every block that is not left out, in order."""
        found, width, size = [], self.in_channels, self.image
        for number, block in enumerate(self.blocks, 1):
            if block is None:
                continue
            assert block.channels is not None
            if block.stride > 1 and min(size) < 2:
                raise OcheError(
                    f"image={self.image} has shrunk to {size[0]} x {size[1]} before block {number} ({block.name}), which would "
                    "shrink it further; use larger images, or fewer strides"
                )
            size = -(-size[0] // block.stride), -(-size[1] // block.stride)
            found.append(Place(number, block, Shape(width, block.channels, block.stride), size))
            width = block.channels
        return tuple(found)

    def describe(self, classes: int) -> list[dict]:
        """Return one row for each part of the network, for reports: {"name", "channels", "size"}."""
        rows = [{"name": p.block.short, "channels": p.shape.c_out, "size": list(p.size)} for p in self.places]
        return [*rows, {"name": "head", "channels": classes, "size": [1, 1]}]


def maps(stem: nn.Module, cells: Iterable[nn.Module], x: Tensor, factors: EdgeFactors) -> Iterator[Tensor]:
    """Yield the output of the first block, then that of each further block but the last; `ChainNetwork.feature_maps`."""
    x = stem(x)
    yield x
    for layer in cells:
        x = layer(x, factors)
        yield x


def make_head(last: Place, classes: int) -> nn.Sequential:
    """Return the last convolution, a global average pool and the classifier."""
    width = last.shape.c_out
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
    return nn.Sequential(build_block(last.block, last.shape), *pooled)


@checked
class ChainNetwork(DropPathNetwork):
    """The network of a chain: maps images (B, in_channels, H, W) to logits (B, classes).

    Drop path drops the blocks beside which an identity runs. Raises `OcheError` for a genotype that is no chain, impossible
    sizes and a probability outside [0, 1).
    """

    maps = staticmethod(maps)

    def __init__(
        self,
        genotype: Genotype,
        *,
        classes: int,
        in_channels: int = 3,
        image: tuple[int, int] = (224, 224),
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise OcheError(f"drop_path={drop_path} is not a probability below 1; use 0 <= drop_path < 1")
        if classes < 1 or in_channels < 1:
            raise OcheError(f"classes={classes}, in_channels={in_channels} leave nothing to build; use 1 or more")
        self.genotype, self.drop_path, self.classes = genotype, drop_path, classes
        self.plan = ChainPlan(chain_blocks(genotype), in_channels, image)
        first, *middle, last = self.plan.places
        self.stem = build_block(first.block, first.shape)
        self.cells = nn.ModuleList(ChainLayer(place.block, place.shape) for place in middle)
        self.head = make_head(last, classes)

    def forward(self, x: Tensor, drops: Tensor | None = None) -> Tensor:
        """``drops`` (D, B): the factors of drop path, drawn anew by default; see `DropPathNetwork.drops`."""
        last = x
        for last in self.maps(self.stem, self.cells, x, self.edge_factors(x, drops)):  # noqa: B007
            pass
        return self.head(last)

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.plan.in_channels

    @property
    def feature_maps(self) -> list[FeatureMap]:
        """The feature maps that the network computes, in order; that of the last convolution is not among them."""
        return feature_maps(self.plan.places[:-1])

    def describe(self) -> list[dict]:
        """Return one row for each part of the network, for reports: {"name", "channels", "size"}."""
        return self.plan.describe(self.classes)


def feature_maps(places: Sequence[Place]) -> list[FeatureMap]:
    """Return the feature maps after each of ``places``."""
    found, reduction = [], 1
    for i, place in enumerate(places):
        reduction *= place.shape.stride
        found.append(FeatureMap(f"cells.{i - 1}" if i else "stem", place.shape.c_out, reduction))
    return found
