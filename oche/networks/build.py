"""Build the final network of any genotype: that of a chain, NAS-Bench-201's network for its cells, DARTS' for all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.blocks import is_chain
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.core.nasbench201 import CELL
from oche.networks import cell_network as final
from oche.networks.backbone import Backbone
from oche.networks.chain import ChainNetwork
from oche.networks.macro import Skeleton, Stem, Widen
from oche.networks.nasbench201 import FinalNetwork as BenchmarkNetwork
from oche.networks.nasbench201 import build as build_benchmark

FinalNetwork = final.FinalNetwork | BenchmarkNetwork | ChainNetwork
SIZES = ("channels", "cells", "stem", "reductions", "widen", "head")  # options that size the network around cells


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
    The blocks of a chain say its sizes; it takes classes, in_channels, image and drop_path. Elsewhere ``image`` matters only to
    an auxiliary head or an MLP head. ``num_classes`` is another name of ``classes``.

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
    genotype = resolve(genotype)
    around = dict(channels=channels, cells=cells, stem=stem, reductions=reductions, widen=widen, head=head)
    make = next(make for knows, make in _FAMILIES if knows(genotype))
    net = make(
        genotype, around, auxiliary, classes=classes, in_channels=in_channels, drop_path=drop_path,
        image=(image, image) if isinstance(image, int) else image,
    )  # fmt: skip
    return Backbone(net, out_indices) if features else net


def network_sizes(genotype: Genotype) -> tuple[str, ...]:
    """Return the options of `build` that size the network of ``genotype``: none for a chain, whose blocks say their widths."""
    return () if is_chain(genotype) else SIZES


# --- the kinds of networks --------------------------------------------------------------------------------------------

Around = Mapping[str, Any]  # the options `SIZES`


def _chain(genotype: Genotype, around: Around, auxiliary: bool, **common: Any) -> ChainNetwork:
    """Build the network of a chain. Raises `OcheError` for sizes that its blocks have."""
    asked = {**around, "auxiliary": auxiliary}
    if given := [f"{name}={value!r}" for name, value in asked.items() if value != _DEFAULTS[name]]:
        raise OcheError(
            f"the blocks of a chain say the sizes of its network, which has no auxiliary tower; leave out {', '.join(given)} "
            "(oche.core.blocks.scale_width makes a chain wider or narrower)"
        )
    return ChainNetwork(genotype, **common)


def _benchmark(genotype: Genotype, around: Around, auxiliary: bool, **common: Any) -> BenchmarkNetwork:
    """Build the network of a cell of NAS-Bench-201."""
    parts = {name: around[name] for name in ("reductions", "widen", "head")}
    _check_benchmark_parts(auxiliary=auxiliary, **parts)
    sizes = {name: around[name] for name in ("channels", "cells") if around[name] is not None}
    return build_benchmark(genotype, stem=around["stem"], **sizes, **common)


def _cells(
    genotype: Genotype, around: Around, auxiliary: bool, *, classes: int, in_channels: int, image: tuple[int, int],
    drop_path: float,
) -> final.FinalNetwork:  # fmt: skip
    """Build DARTS' network around normal and reduction cells."""
    given = {name: value for name, value in around.items() if value is not None}
    sizes = {"channels": 36, "cells": 20, **given, "classes": classes, "in_channels": in_channels, "image": image}
    return final.FinalNetwork(genotype, Skeleton(**sizes), auxiliary, drop_path)


_FAMILIES = (
    (is_chain, _chain),
    (lambda genotype: [*genotype.cells] == [CELL], _benchmark),
    (lambda genotype: True, _cells),
)


def _check_benchmark_parts(**asked: Any) -> None:
    """Raise `OcheError` if a part is ``asked`` for that the network of NAS-Bench-201 does not have."""
    lacking = {name: value for name, value in asked.items() if value != _BENCHMARK_VALUES[name]}
    if lacking:
        raise OcheError(
            f"the network of NAS-Bench-201 has no {' and no '.join(_PART_NAMES[name] for name in lacking)}; write "
            f"{', '.join(f'{name}={_BENCHMARK_VALUES[name]!r}' for name in lacking)} (in a training: --recipe nb201 has it so)"
        )


_BENCHMARK_VALUES = {"auxiliary": False, "reductions": None, "widen": "at", "head": ()}
_DEFAULTS = {**_BENCHMARK_VALUES, "channels": None, "cells": None, "stem": "cifar"}
_PART_NAMES = {
    "auxiliary": "auxiliary tower",
    "reductions": "reduction cells to place",
    "widen": "other place to widen than between its stages",
    "head": "hidden layers in its head",
}
