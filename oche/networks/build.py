"""The final network of whatever genotype: cells of NAS-Bench-201 stand in that benchmark's network, all others in DARTS'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.core.nasbench201 import CELL
from oche.networks import cell_network as final
from oche.networks.backbone import Backbone
from oche.networks.macro import Skeleton, Stem, Widen
from oche.networks.nasbench201 import FinalNetwork as BenchmarkNetwork
from oche.networks.nasbench201 import build as build_benchmark

FinalNetwork = final.FinalNetwork | BenchmarkNetwork


class NetworkOptions(TypedDict, total=False):
    """What sizes a network, see `build`."""

    channels: int | None
    cells: int | None
    auxiliary: bool
    drop_path: float
    stem: Stem
    in_channels: int
    image: int | tuple[int, int]
    reductions: tuple[int, ...] | None
    widen: Widen
    head: tuple[int, ...]


@overload
def build(
    genotype: Genotype | str, *, classes: int, features: Literal[False] = False, **network: Unpack[NetworkOptions]
) -> FinalNetwork: ...


@overload
def build(
    genotype: Genotype | str,
    *,
    features: Literal[True],
    out_indices: Sequence[int] | None = None,
    **network: Unpack[NetworkOptions],
) -> Backbone: ...


def build(
    genotype: Genotype | str,
    *,
    classes: int | None = None,
    channels: int | None = None,
    cells: int | None = None,
    auxiliary: bool = False,
    drop_path: float = 0.0,
    stem: Stem = "cifar",
    in_channels: int = 3,
    image: int | tuple[int, int] = 32,
    reductions: tuple[int, ...] | None = None,
    widen: Widen = "at",
    head: tuple[int, ...] = (),
    features: bool = False,
    out_indices: Sequence[int] | None = None,
) -> FinalNetwork | Backbone:
    """The final network of a genotype (a `Genotype`, its text, or a published name).

    For cells named "normal" and "reduce" the defaults are DARTS' for CIFAR-10, ``channels=36, cells=20``; its ImageNet form is
    ``channels=48, cells=14, classes=1000, stem="imagenet", image=224``. For a cell of NAS-Bench-201 they are the benchmark's,
    ``channels=16, cells=5``, the cells of each of its three stages. ``image`` matters only to an auxiliary or an MLP head.

    ``features``: a `Backbone` without a head, which returns the feature maps at each resolution, or those that ``out_indices``
    chooses (0: the finest). ``classes`` mean nothing to it.

    Raises `OcheError` for an unknown operation, impossible sizes, or parts that the network of the genotype does not have.
    """
    if features:
        if auxiliary or head:
            raise OcheError("feature maps have no auxiliary tower and no head; leave auxiliary and head out")
        classes = 1  # of a head that is not kept
    elif out_indices is not None or classes is None:
        raise OcheError(
            "a network that classifies needs classes and has no out_indices; write features=True for a backbone"
        )
    genotype, size = resolve(genotype), (image, image) if isinstance(image, int) else image
    if [*genotype.cells] == [CELL]:
        _check_benchmark(auxiliary=auxiliary, stem=stem, reductions=reductions, widen=widen, head=head)
        net = build_benchmark(
            genotype, classes=classes, channels=16 if channels is None else channels, cells=5 if cells is None else cells,
            in_channels=in_channels, image=size, drop_path=drop_path,
        )  # fmt: skip
    else:
        skeleton = Skeleton(
            36 if channels is None else channels, 20 if cells is None else cells, classes, in_channels, size, stem,
            reductions, widen, head,
        )  # fmt: skip
        net = final.FinalNetwork(genotype, skeleton, auxiliary, drop_path)
    return Backbone(net, out_indices) if features else net


def _check_benchmark(**asked: Any) -> None:
    """Raises `OcheError` where a part is ``asked`` for that the network of NAS-Bench-201 does not have."""
    lacking = {name: value for name, value in asked.items() if value != _PLAIN[name]}
    if lacking:
        raise OcheError(
            f"the network of NAS-Bench-201 has no {' and no '.join(_WHAT[name] for name in lacking)}; write "
            f"{', '.join(f'{name}={_PLAIN[name]!r}' for name in lacking)} (in a training: --recipe nb201 has it so)"
        )


_PLAIN = {"auxiliary": False, "stem": "cifar", "reductions": None, "widen": "at", "head": ()}
_WHAT = {
    "auxiliary": "auxiliary tower",
    "stem": "other stem than one 3x3 convolution",
    "reductions": "reduction cells to place",
    "widen": "other place to widen than between its stages",
    "head": "hidden layers in its head",
}
