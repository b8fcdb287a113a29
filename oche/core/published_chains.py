"""The published chains of blocks, as compact tables. `oche.core.genotypes` has them with their papers and sources.

A layer is "ke" (kernel, expansion), with "g" for groups of 2, or "-" for a layer left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from oche.core.architecture import NONE, Genotype
from oche.core.blocks import Block, chain_genotype


def chain(first: Sequence[str], widths: Sequence[int], strides: Sequence[int], layers: str, last: str) -> Genotype:
    """Return a chain: the blocks ``first``, stages of ``layers`` divided by "|", and the block ``last``.

    Each stage has a width, and the stride of its first layer.
    """
    blocks = [*first]
    for width, stride, stage in zip(widths, strides, layers.split("|"), strict=True):
        for i, layer in enumerate(stage.split()):
            made = Block("mb", int(layer[0]), int(layer[1]), 2 if layer.endswith("g") else 1,
                         stride=1 if i else stride, channels=width) if layer != "-" else None  # fmt: skip
            blocks.append(NONE if made is None else made.name)
    return chain_genotype([*blocks, last])


MOBILENET_V2 = chain(
    ["conv_k3_s2_c32"], (16, 24, 32, 64, 96, 160, 320), (1, 2, 2, 2, 1, 2, 1),
    "31 | 36 36 | 36 36 36 | 36 36 36 36 | 36 36 36 | 36 36 36 | 36", "conv_k1_c1280",
)  # fmt: skip

_PROXYLESS = (2, 2, 2, 1, 2, 1)

PROXYLESS_CPU = chain(
    ["conv_k3_s2_c40", "mb_k3_e1_c24"], (32, 48, 88, 104, 216, 360), _PROXYLESS,
    "36 33 33 33 | 36 33 33 53 | 36 - - 33 | 56 33 33 33 | 56 53 53 33 | 56", "conv_k1_c1432",
)  # fmt: skip

PROXYLESS_GPU = chain(
    ["conv_k3_s2_c40", "mb_k3_e1_c24"], (32, 56, 112, 128, 256, 432), _PROXYLESS,
    "53 - - - | 73 - - 33 | 76 - - 53 | 56 - 33 53 | 76 76 76 56 | 76", "conv_k1_c1728",
)  # fmt: skip

_PROXYLESS_MOBILE = "53 33 - - | 73 33 53 53 | 76 53 53 53 | 56 53 53 53 | 76 76 73 73 | 76"

PROXYLESS_MOBILE = chain(
    ["conv_k3_s2_c32", "mb_k3_e1_c16"], (32, 40, 80, 96, 192, 320), _PROXYLESS, _PROXYLESS_MOBILE, "conv_k1_c1280"
)

PROXYLESS_MOBILE_14 = chain(
    ["conv_k3_s2_c48", "mb_k3_e1_c24"], (40, 56, 112, 136, 256, 448), _PROXYLESS, _PROXYLESS_MOBILE, "conv_k1_c1792"
)

_FBNET = (16, 24, 32, 64, 112, 184, 352), (1, 2, 2, 2, 1, 2, 1)

FBNET_A = chain(
    ["conv_k3_s2_c16"], *_FBNET,
    "- | 33 31 - - | 56 33 51 33 | 56 53 51g 56 | 36 51g 53 31g | 56 56 53 56 | 56", "conv_k1_c1504",
)  # fmt: skip

FBNET_B = chain(
    ["conv_k3_s2_c16"], *_FBNET,
    "31 | 36 51 31 31 | 56 53 36 56 | 56 56 - 53 | 56 31 51 53 | 56 51 56 56 | 36", "conv_k1_c1984",
)  # fmt: skip

FBNET_C = chain(
    ["conv_k3_s2_c16"], *_FBNET,
    "31 | 36 - 31 31 | 56 53 56 36 | 56 53 56 56 | 56 56 56 53 | 56 56 56 56 | 36", "conv_k1_c1984",
)  # fmt: skip
