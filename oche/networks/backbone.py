"""A final network as a backbone: it returns feature maps instead of logits, and describes them as timm does.

Shapes: B images, C channels of a map, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol

from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.networks.drop_path import DropPathNetwork, EdgeFactors

Maps = Callable[
    [nn.Module, Iterable[nn.Module], Tensor, EdgeFactors], Iterator[Tensor]
]  # stem, cells, images, drop path


@dataclass(frozen=True)
class FeatureMap:
    """The description of a feature map that a network computes."""

    module: str
    """the module whose output it is; empty for the images themselves"""
    num_chs: int
    """C"""
    reduction: int
    """H and W are those of the image divided by this number, rounded up"""


class BackboneSource(Protocol):
    """A network that a backbone can be made of; every final network is one."""

    drop_path: float

    @property
    def stem(self) -> nn.Module: ...

    @property
    def cells(self) -> nn.ModuleList: ...

    @property
    def in_channels(self) -> int: ...

    @property
    def maps(self) -> Maps:
        """The function that yields the feature maps in the order of ``feature_maps``."""
        ...

    @property
    def feature_maps(self) -> list[FeatureMap]: ...


class FeatureInfo:
    """The feature maps of a network by number, from finest to coarsest; the interface of `timm.models.FeatureInfo`.

    ``idx`` is the number of one map, several numbers, or None for all maps that the network returns.
    """

    def __init__(self, points: Sequence[FeatureMap], out_indices: tuple[int, ...]) -> None:
        self.info: list[dict[str, Any]] = [{**asdict(p), "index": i} for i, p in enumerate(points)]
        self.out_indices = out_indices

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return C of the maps ``idx``."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the stride to the image of the maps ``idx``."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the name of the module whose output is the map ``idx``."""
        return self.get("module", idx)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Return the field ``key`` of the maps ``idx``."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return self.info[idx]

    def __len__(self) -> int:
        return len(self.info)


class Backbone(DropPathNetwork):
    """Maps images (B, in_channels, H, W) to a list of feature maps (B, C, ⌈H / reduction⌉, ⌈W / reduction⌉).

    It has one map for each resolution: the last that the network computes at that resolution, before any activation.
    ``feature_info`` gives their channels and strides.

    The parameters are those of the network and keep their names, so a state dict of the whole network loads. Parts after
    the last map are left out, and so are their entries of the state dict.
    """

    def __init__(self, net: BackboneSource, out_indices: Sequence[int] | None = None) -> None:
        """Make a backbone of the final network ``net``, whose modules are shared.

        ``out_indices``: the maps to return (None: all; −1: the coarsest). Raises `OcheError` for numbers out of range.
        """
        super().__init__()
        maps = net.feature_maps
        last_at = {m.reduction: i for i, m in enumerate(maps) if m.module}  # index of the last map of each resolution
        chosen = _check_indices(out_indices, len(last_at))
        self.feature_info = FeatureInfo([maps[i] for i in last_at.values()], chosen)
        self._returned = [[*last_at.values()][i] for i in chosen]  # indices among all maps
        self.whole = len(net.cells)  # cells of the whole network; the backbone keeps those up to the last returned map
        before_cells = len(maps) - self.whole
        self.stem, self.cells = net.stem, net.cells[: max(0, self._returned[-1] + 1 - before_cells)]
        self.drop_path, self._maps, self.in_channels = net.drop_path, net.maps, net.in_channels
        self.register_load_state_dict_pre_hook(_remove_unused)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the chosen feature maps of images x, from finest to coarsest.

        Floats are converted to the precision of the weights. Raises `OcheError` for anything but floats (B, in_channels, H, W).
        """
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() != 4 or x.shape[1] != self.in_channels:
            found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise OcheError(f"a backbone takes a tensor of floats (B, {self.in_channels}, H, W), found {found}")
        weight = next(self.parameters())
        if x.device != weight.device:
            raise OcheError(f"images are on {x.device} and the backbone on {weight.device}; move one of them")
        x = x.to(weight.dtype)
        maps = islice(self._maps(self.stem, self.cells, x, self.edge_factors(x)), self._returned[-1] + 1)
        return [x for i, x in enumerate(maps) if i in self._returned]


def _check_indices(out_indices: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return ``out_indices`` as sorted numbers from 0. Raises `OcheError` for numbers out of range."""
    if out_indices is None:
        return tuple(range(count))
    bad = [i for i in out_indices if not -count <= i < count]
    if bad or not out_indices:
        raise OcheError(
            f"out_indices={tuple(out_indices)} does not select from the {count} maps; use numbers from 0 to {count - 1}"
        )
    return tuple(sorted({i % count for i in out_indices}))


def _remove_unused(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Remove the entries of parts after the last map of ``net`` from ``state``, the state dict of the whole network."""
    assert isinstance(net, Backbone)
    parts = {"head", "auxiliary", *(f"cells.{i}" for i in range(len(net.cells), net.whole))}
    for name in [name for name in state if name.startswith(tuple(f"{prefix}{part}." for part in parts))]:
        del state[name]
