"""Build the final network of any genotype: NAS-Bench-201's network for its cells, DARTS' network for all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

from oche.core.architecture import Genotype
from oche.core.arguments import checked
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
    """The options of `build` that size the network."""

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
    genotype: Genotype | str, *, num_classes: int, features: Literal[False] = False, **network: Unpack[NetworkOptions]
) -> FinalNetwork: ...


@overload
def build(
    genotype: Genotype | str,
    *,
    features: Literal[True],
    out_indices: Sequence[int] | None = None,
    **network: Unpack[NetworkOptions],
) -> Backbone: ...


@checked
def build(
    genotype: Genotype | str,
    *,
    classes: int | None = None,
    num_classes: int | None = None,
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
    """Build the final network of ``genotype``: a `Genotype`, its text, or a published name.

    For cells named "normal" and "reduce" the defaults are DARTS' network for CIFAR-10, ``channels=36, cells=20``. Its
    ImageNet form is ``channels=48, cells=14, classes=1000, stem="imagenet", image=224``. For a cell of NAS-Bench-201 the
    defaults are the benchmark's, ``channels=16, cells=5``, where ``cells`` counts those of each of the three stages.
    ``image`` matters only to an auxiliary head or an MLP head. ``num_classes`` is another name of ``classes``.

    With ``features=True`` the result is a `Backbone` without a head. It returns one feature map for each resolution, or
    those of ``out_indices`` (0 is the finest). ``classes`` is not used then.

    Raises `OcheError` for an unknown operation, impossible sizes, or a part that the network of the genotype does not
    have.
    """
    if num_classes is not None:
        if classes not in (None, num_classes):
            raise OcheError(f"classes={classes} and num_classes={num_classes} contradict each other; give one of them")
        classes = num_classes
    if features:
        if auxiliary or head:
            raise OcheError("feature maps have no auxiliary tower and no head; leave auxiliary and head out")
        classes = 1  # for the head, which the backbone leaves out
    elif out_indices is not None or classes is None:
        raise OcheError("a classifier needs classes and has no out_indices; write features=True for a backbone")
    genotype, size = resolve(genotype), (image, image) if isinstance(image, int) else image
    if [*genotype.cells] == [CELL]:
        _check_benchmark_parts(auxiliary=auxiliary, reductions=reductions, widen=widen, head=head)
        net = build_benchmark(
            genotype, classes=classes, channels=16 if channels is None else channels, cells=5 if cells is None else cells,
            in_channels=in_channels, image=size, drop_path=drop_path, stem=stem,
        )  # fmt: skip
    else:
        skeleton = Skeleton(
            36 if channels is None else channels, 20 if cells is None else cells, classes, in_channels, size, stem,
            reductions, widen, head,
        )  # fmt: skip
        net = final.FinalNetwork(genotype, skeleton, auxiliary, drop_path)
    return Backbone(net, out_indices) if features else net


def _check_benchmark_parts(**asked: Any) -> None:
    """Raise `OcheError` if a part is ``asked`` for that the network of NAS-Bench-201 does not have."""
    lacking = {name: value for name, value in asked.items() if value != _BENCHMARK_VALUES[name]}
    if lacking:
        raise OcheError(
            f"the network of NAS-Bench-201 has no {' and no '.join(_PART_NAMES[name] for name in lacking)}; write "
            f"{', '.join(f'{name}={_BENCHMARK_VALUES[name]!r}' for name in lacking)} (in a training: --recipe nb201 has it so)"
        )


_BENCHMARK_VALUES = {"auxiliary": False, "reductions": None, "widen": "at", "head": ()}
_PART_NAMES = {
    "auxiliary": "auxiliary tower",
    "reductions": "reduction cells to place",
    "widen": "other place to widen than between its stages",
    "head": "hidden layers in its head",
}
