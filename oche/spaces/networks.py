"""The final network of whatever genotype: cells of NAS-Bench-201 stand in that benchmark's network, all others in DARTS'."""

from __future__ import annotations

from ..arch import Genotype
from ..bench201 import CELL
from ..errors import OcheError
from ..genotypes import resolve
from . import final
from .nb201 import FinalNetwork as BenchmarkNetwork
from .nb201 import build as build_benchmark
from .skeleton import Skeleton, Stem, Widen

FinalNetwork = final.FinalNetwork | BenchmarkNetwork


def build(
    genotype: Genotype | str,
    *,
    classes: int,
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
) -> FinalNetwork:
    """The final network of a genotype (a `Genotype`, its text, or a published name).

    For cells named "normal" and "reduce" the defaults are DARTS' for CIFAR-10, ``channels=36, cells=20``; its ImageNet form is
    ``channels=48, cells=14, classes=1000, stem="imagenet", image=224``. For a cell of NAS-Bench-201 they are the benchmark's,
    ``channels=16, cells=5``, the cells of each of its three stages. ``image`` matters only to an auxiliary or an MLP head.

    Raises `OcheError` for an unknown operation, impossible sizes, or parts that the network of the genotype does not have.
    """
    genotype = resolve(genotype)
    if [*genotype.cells] != [CELL]:
        skeleton = Skeleton(
            36 if channels is None else channels, 20 if cells is None else cells, classes, in_channels,
            (image, image) if isinstance(image, int) else image, stem, reductions, widen, head,
        )  # fmt: skip
        return final.FinalNetwork(genotype, skeleton, auxiliary, drop_path)
    asked = {"auxiliary": auxiliary, "stem": stem, "reductions": reductions, "widen": widen, "head": head}
    lacking = {name: value for name, value in asked.items() if value != _PLAIN[name]}
    if lacking:
        raise OcheError(
            f"the network of NAS-Bench-201 has no {' and no '.join(_WHAT[name] for name in lacking)}; write "
            f"{', '.join(f'{name}={_PLAIN[name]!r}' for name in lacking)} (in a training: --recipe nb201 has it so)"
        )
    return build_benchmark(
        genotype, classes=classes, channels=16 if channels is None else channels, cells=5 if cells is None else cells,
        in_channels=in_channels, image=image, drop_path=drop_path,
    )  # fmt: skip


_PLAIN = {"auxiliary": False, "stem": "cifar", "reductions": None, "widen": "at", "head": ()}
_WHAT = {
    "auxiliary": "auxiliary tower",
    "stem": "other stem than one 3x3 convolution",
    "reductions": "reduction cells to place",
    "widen": "other place to widen than between its stages",
    "head": "hidden layers in its head",
}
