"""The blocks of a chain by name, and a chain of blocks as a discrete cell.

A chain is a network of one block after another: MobileNetV2 (1801.04381), ProxylessNAS (1812.00332), FBNet (1812.03443). In a
genotype it is one cell named "chain", in which node i is the output of block i and every node has one incoming edge, from
the node before. The operation of an edge is the name of its block with everything that a network needs to build it::

    mb_k5_e6_s2_c40      inverted residual: depthwise 5×5, expansion 6, stride 2, 40 channels
    mb_k3_e1_g2_c24      the same with 1×1 convolutions in 2 groups
    mb_k3_e4_se_swish_c40   with squeeze-excitation and swish
    conv_k3_s2_c32       convolution, BatchNorm, activation
    none                 a layer left out

A candidate of a search has the name without stride and channels, which its place gives: `choice_name`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from oche.core.architecture import NONE, Cell, Genotype
from oche.core.errors import OcheError
from oche.core.genotype_text import CHAIN

Activation = Literal["relu6", "relu", "swish"]

_NAME = re.compile(
    r"(?P<kind>mb|conv)_k(?P<kernel>\d+)(?:_e(?P<expansion>\d+))?(?:_g(?P<groups>\d+))?(?P<squeeze>_se)?"
    r"(?:_(?P<activation>relu|swish))?(?:_s(?P<stride>\d+))?(?:_c(?P<channels>\d+))?"
)


@dataclass(frozen=True)
class Block:
    """A block of a chain: an inverted residual (kind "mb") or a convolution (kind "conv").

    Raises `OcheError` for an even kernel and for numbers below 1.
    """

    kind: Literal["mb", "conv"]
    kernel: int
    """side of the depthwise kernel, or of the convolution's"""
    expansion: int = 1
    """width between the two 1×1 convolutions, divided by the width of the input; at 1 the first of them is left out"""
    groups: int = 1
    """groups of the 1×1 convolutions"""
    squeeze: bool = False
    """whether squeeze-excitation (1709.01507) follows the depthwise convolution"""
    activation: Activation = "relu6"
    stride: int = 1
    channels: int | None = None
    """width of the output; None for a candidate, whose place gives it"""

    def __post_init__(self) -> None:
        sizes = (self.kernel, self.expansion, self.groups, self.stride, 1 if self.channels is None else self.channels)
        if min(sizes) < 1 or self.kernel % 2 == 0:
            raise OcheError(f"a block {self.name!r} cannot be built; use an odd kernel, and numbers of 1 or more")

    @property
    def choice(self) -> str:
        """The name of the block as a candidate: without stride and channels."""
        of_mb = f"_e{self.expansion}" if self.kind == "mb" else ""
        groups = f"_g{self.groups}" if self.groups > 1 else ""
        activation = "" if self.activation == "relu6" else f"_{self.activation}"
        return f"{self.kind}_k{self.kernel}{of_mb}{groups}{'_se' if self.squeeze else ''}{activation}"

    @property
    def name(self) -> str:
        """The whole name, which `parse` reads."""
        stride = f"_s{self.stride}" if self.stride > 1 else ""
        return f"{self.choice}{stride}{'' if self.channels is None else f'_c{self.channels}'}"

    @property
    def short(self) -> str:
        """The choice in few characters, for drawings: "k5 e6", "3×3"."""
        if self.kind == "conv":
            return f"{self.kernel}×{self.kernel}"
        extra = [f"g{self.groups}"] * (self.groups > 1) + ["se"] * self.squeeze
        return " ".join([f"k{self.kernel}", f"e{self.expansion}", *extra])

    @classmethod
    def parse(cls, name: str) -> Block:
        """Return the block called ``name``. Raises `OcheError` for other names."""
        if (block := find_block(name)) is None:
            raise OcheError(
                f"no block of a chain is named {name!r}; write mb_k3_e6 (kernel 3, expansion 6) with _g2, _se or _swish, or "
                "conv_k3; in a genotype also _s2 (stride) and _c24 (channels)"
            )
        return block


@lru_cache(maxsize=4096)
def find_block(name: str) -> Block | None:
    """Return the block called ``name``, or None if it is the name of another operation.

    Raises `OcheError` for numbers of which there is no block.
    """
    found = _NAME.fullmatch(name)
    if found is None or (found["kind"] == "mb") != (found["expansion"] is not None):
        return None
    return Block(
        found["kind"],  # pyright: ignore[reportArgumentType]
        int(found["kernel"]),
        int(found["expansion"] or 1),
        int(found["groups"] or 1),
        found["squeeze"] is not None,
        found["activation"] or "relu6",  # pyright: ignore[reportArgumentType]
        int(found["stride"] or 1),
        None if found["channels"] is None else int(found["channels"]),
    )


def choice_name(operation: str) -> str:
    """Return the candidate that ``operation`` of a genotype was chosen as: a block without stride and channels.

    Other operations are their own candidates.
    """
    block = find_block(operation)
    return operation if block is None else block.choice


# --- chains as cells --------------------------------------------------------------------------------------------------


def chain_genotype(operations: Sequence[str]) -> Genotype:
    """Return the genotype of a chain of ``operations``, each the name of a whole block or "none".

    Raises `OcheError` for other names, and for a chain that does not begin and end with a convolution.
    """
    edges = tuple((op, i, i + 1) for i, op in enumerate(operations))
    if not edges:
        raise OcheError("a chain has no blocks; write at least two, the first and the last of them convolutions")
    genotype = Genotype({CHAIN: Cell(edges, (len(edges),))})
    chain_blocks(genotype)
    return genotype


def is_chain(genotype: Genotype) -> bool:
    """Whether ``genotype`` is that of a chain, by the name of its cell."""
    return [*genotype.cells] == [CHAIN]


def cell_blocks(cell: Cell) -> tuple[Block | None, ...] | None:
    """Return the blocks of a ``cell`` that is a chain, None for layers left out; or None if it is another kind of cell."""
    if [(i, j) for _, i, j in cell.edges] != [(i, i + 1) for i in range(len(cell.edges))]:
        return None
    blocks = [find_block(op) for op, _, _ in cell.edges]
    whole = all(
        op == NONE or (block is not None and block.channels is not None)
        for block, (op, _, _) in zip(blocks, cell.edges, strict=True)
    )
    return tuple(blocks) if whole and any(blocks) else None


def chain_blocks(genotype: Genotype) -> tuple[Block | None, ...]:
    """Return the blocks of a chain, None for layers left out. Raises `OcheError` if no network can be built of them."""
    cell = genotype.cells.get(CHAIN)
    blocks = None if cell is None else cell_blocks(cell)
    if blocks is None:
        raise OcheError(
            f"the genotype with {', '.join(genotype.cells)} is no chain of blocks; write "
            "Genotype(chain=['conv_k3_s2_c32', 'mb_k3_e1_c16', ..., 'conv_k1_c1280'])"
        )
    first, last = blocks[0], blocks[-1]
    if len(blocks) < 2 or first is None or last is None or (first.kind, last.kind) != ("conv", "conv"):
        raise OcheError(
            "a chain begins and ends with a convolution; write conv_k3_s2_c32 first, say, and conv_k1_c1280 last"
        )
    return blocks


def scale_width(genotype: Genotype, width: float, first: bool = True) -> Genotype:
    """Return a chain with all channels times ``width``, rounded to multiples of 8, by at most 10 % down (MobileNetV2's rule).

    The last convolution never becomes narrower, as in MobileNetV2. ``first``: whether the first convolution scales too.
    Raises `OcheError` unless width > 0.
    """
    if not width > 0:
        raise OcheError(f"width={width} leaves no channels; use width > 0")
    names, blocks = [], chain_blocks(genotype)
    for i, block in enumerate(blocks):
        if block is None:
            names.append(NONE)
            continue
        assert block.channels is not None
        by = max(1.0, width) if i == len(blocks) - 1 else 1.0 if i == 0 and not first else width
        names.append(replace(block, channels=round_channels(block.channels * by)).name)
    return chain_genotype(names)


def round_channels(channels: float, multiple: int = 8) -> int:
    """Return the multiple of ``multiple`` nearest to ``channels``, at least one of them and at least 90 % of ``channels``."""
    rounded = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * channels else rounded
