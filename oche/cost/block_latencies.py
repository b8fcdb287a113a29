"""The latency of each block of a chain, for drawings of the network."""

from __future__ import annotations

import torch

from oche.core.architecture import Genotype
from oche.core.blocks import chain_blocks
from oche.cost.breakdown import Place
from oche.cost.latency_table import LatencyTable
from oche.networks.chain import ChainLayer, ChainPlan


def block_latencies(
    genotype: Genotype, table: LatencyTable, in_channels: int, image: tuple[int, int]
) -> dict[int, float]:
    """Return the milliseconds of each block by its node, as ``table`` has or measures them.

    Blocks that the table lacks are left out: a search measures the blocks that it may choose, not the first and the last.
    """
    found, size = {}, image
    for at in ChainPlan(chain_blocks(genotype), in_channels, image).places:
        c_in, c_out, stride = at.shape
        place = Place(c_in, stride, size, None if c_in == c_out else c_out)
        key = place.key(at.block.choice)
        if key in table.entries or table.engine is not None:
            found[at.number] = table(key, ChainLayer(at.block, at.shape), torch.zeros(1, *place.shape))
        size = at.size
    return found
