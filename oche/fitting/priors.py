"""Cells that a fit trains when a search does not pay, and sizes of networks to choose from."""

from __future__ import annotations

from oche.core.genotypes import GENOTYPES, resolve
from oche.core.nasbench201 import CELL
from oche.networks.macro import STRIDES, Stem
from oche.networks.nasbench201 import STEMS

PRIOR = "RESNET"  # of the known cells it has most FLOPs a second on a CPU; which learns most is not measured yet
CONTROL = "RESNET"
STANDING = "DARTS_V2"  # stands for the cells that a search will find, when their training is timed before it

# (channels, cells) of growing cost. A cell of NAS-Bench-201 stands once or more in each of three stages.
STAGED = ((8, 1), (12, 1), (16, 1), (24, 1), (32, 1), (32, 2), (48, 2), (64, 2), (64, 3), (96, 3))
STACKED = ((8, 5), (12, 5), (16, 5), (16, 8), (24, 8), (36, 8), (36, 14), (36, 20), (48, 20))


def sizes_of(genotype: str) -> tuple[tuple[int, int], ...]:
    """Return the (channels, cells) to choose from for networks of ``genotype``, of growing cost."""
    return STAGED if is_staged(genotype) else STACKED


def typical_size(genotype: str) -> tuple[int, int]:
    """Return (channels, cells) of a network of ``genotype`` of medium cost, to time its steps with."""
    return sizes_of(genotype)[2]


def is_staged(genotype: str) -> bool:
    """Whether the network of ``genotype`` is that of NAS-Bench-201: three stages of one cell."""
    return [*resolve(genotype).cells] == [CELL]


def stem_of(genotype: str, stem: Stem) -> Stem:
    """Return the stem of the network of ``genotype`` that shrinks images most like ``stem``."""
    if not is_staged(genotype) or stem in STEMS:
        return stem
    return "stride4" if STRIDES[stem] > 1 else "cifar"


def title_of(genotype: str) -> str:
    """Return the published name of ``genotype``, else "the given cell"."""
    given = resolve(genotype)
    return next((name for name, published in GENOTYPES.items() if published.genotype == given), "the given cell")
