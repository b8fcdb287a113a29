"""A final network as a backbone: its feature maps instead of its logits, described as timm describes them.

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

Maps = Callable[[nn.Module, Iterable[nn.Module], Tensor, EdgeFactors], Iterator[Tensor]]


@dataclass(frozen=True)
class FeatureMap:
    """A map that a network computes on its way."""

    module: str
    """whose output it is; empty: the images themselves"""
    num_chs: int
    """C"""
    reduction: int
    """H and W are those of the image divided by it, rounded up"""


class BackboneSource(Protocol):
    """What a backbone is made of; final networks are."""

    drop_path: float

    @property
    def stem(self) -> nn.Module: ...

    @property
    def cells(self) -> nn.ModuleList: ...

    @property
    def maps(self) -> Maps:
        """stem, cells, images, what drops paths → the maps in order, as ``points`` describes them"""
        ...

    @property
    def points(self) -> list[FeatureMap]: ...


class FeatureInfo:
    """The maps of a network by number, from the finest to the coarsest, as `timm.models.FeatureInfo` has them."""

    def __init__(self, points: Sequence[FeatureMap], out_indices: tuple[int, ...]) -> None:
        self.info: list[dict[str, Any]] = [{**asdict(p), "index": i} for i, p in enumerate(points)]
        self.out_indices = out_indices

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """C of map ``idx``, of several, or of all that the network returns."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Stride of map ``idx`` to the image, of several, or of all that the network returns."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Name of the module whose output map ``idx`` is, of several, or of all that the network returns."""
        return self.get("module", idx)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """What is known of map ``idx``, of several, or of all that the network returns."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return self.info[idx]

    def __len__(self) -> int:
        return len(self.info)


class Backbone(DropPathNetwork):
    """Maps images (B, in_channels, H, W) to the list of their feature maps (B, C, ⌈H / reduction⌉, ⌈W / reduction⌉).

    One map for each resolution, the last that the network computes at it, before any activation; ``feature_info`` has
    their channels and strides. Its parameters are the network's and keep their names, so a state dict of the whole network
    loads: what comes after the last map is left out, as are the parts of the network that compute it.
    """

    def __init__(self, net: BackboneSource, out_indices: Sequence[int] | None = None) -> None:
        """``net``: a final network, whose modules are shared. ``out_indices``: which maps (None: all, -1: the coarsest)."""
        super().__init__()
        points = net.points
        last = {p.reduction: i for i, p in enumerate(points) if p.module}  # of each resolution
        chosen = _chosen(out_indices, len(last))
        self.feature_info = FeatureInfo([points[i] for i in last.values()], chosen)
        self._places = [[*last.values()][i] for i in chosen]
        self.whole = len(net.cells)  # cells of the network, of which those up to the last map are kept
        before = len(points) - self.whole
        self.stem, self.cells = net.stem, net.cells[: max(0, self._places[-1] + 1 - before)]
        self.drop_path, self._maps = net.drop_path, net.maps
        self.register_load_state_dict_pre_hook(_leave_out)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = islice(self._maps(self.stem, self.cells, x, self.rows(x)), self._places[-1] + 1)
        return [x for i, x in enumerate(maps) if i in self._places]


def _chosen(out_indices: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if out_indices is None:
        return tuple(range(count))
    bad = [i for i in out_indices if not -count <= i < count]
    if bad or not out_indices:
        raise OcheError(
            f"out_indices={tuple(out_indices)} does not choose among {count} maps; use numbers from 0 to {count - 1}"
        )
    return tuple(sorted({i % count for i in out_indices}))


def _leave_out(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Takes what comes after the last map of ``net`` out of the state dict of the whole network."""
    assert isinstance(net, Backbone)
    parts = {"head", "auxiliary", *(f"cells.{i}" for i in range(len(net.cells), net.whole))}
    for name in [name for name in state if name.startswith(tuple(f"{prefix}{part}." for part in parts))]:
        del state[name]
