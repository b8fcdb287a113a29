"""The latencies of the blocks of a chain are those of the table."""

import torch

from oche.core.blocks import chain_genotype
from oche.cost.block_latencies import block_latencies
from oche.cost.expected_cost import cost_model
from oche.cost.latency_table import LatencyTable, Timing
from oche.spaces import chain

CHAIN = chain_genotype(["conv_k3_c4", "mb_k3_e1_c4", "none", "mb_k5_e2_s2_c6", "conv_k1_c8"])


def test_blocks_have_the_times_of_their_places():
    times = {
        "mb_k3_e1 4x8x8 stride 1": Timing(1.5, 1, 2, 7),
        "mb_k5_e2 4x8x8 stride 2 to 6": Timing(2.5, 2, 3, 7),
        "mb_k5_e2 4x4x4 stride 2 to 6": Timing(9.0, 9, 9, 7),
    }
    assert block_latencies(CHAIN, LatencyTable({}, entries=times), 3, (8, 8)) == {2: 1.5, 4: 2.5}


def test_the_keys_are_those_that_a_search_measures():
    space = chain(
        first=("conv_k3_c4",), widths=(4, 6), layers=(2, 1), strides=(1, 2), last="conv_k1_c8", image=(8, 8), classes=3,
        candidates=("none", "mb_k3_e1", "mb_k5_e2"),
    )  # fmt: skip
    measured: dict[str, Timing] = {}

    def measure(key: str, module: torch.nn.Module, x: torch.Tensor) -> float:
        module(x)
        measured[key] = Timing(float(len(measured)), 0, 0, 1)
        return measured[key].median

    model = cost_model(space, measure)
    found = block_latencies(CHAIN, LatencyTable({}, entries=measured), 3, (8, 8))
    costs = model.groups["chain"]
    assert found == {2: costs[0, 1], 4: costs[2, 2]}
