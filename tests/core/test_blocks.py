"""Blocks by name, and chains of them as genotypes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oche.core.architecture import Genotype
from oche.core.blocks import (
    Block,
    cell_blocks,
    chain_blocks,
    chain_genotype,
    choice_name,
    find_block,
    is_chain,
    round_channels,
    scale_width,
)
from oche.core.errors import OcheError
from oche.core.genotypes import get

CHAIN = chain_genotype(["conv_k3_s2_c32", "mb_k3_e1_c16", "mb_k5_e6_g2_se_swish_s2_c24", "none", "conv_k1_c64"])


@given(
    st.sampled_from([1, 3, 5, 7]), st.integers(1, 6), st.integers(1, 4), st.booleans(),
    st.sampled_from(["relu6", "relu", "swish"]), st.integers(1, 2), st.none() | st.integers(1, 2000),
)  # fmt: skip
def test_a_name_says_everything(kernel, expansion, groups, squeeze, activation, stride, channels):
    block = Block("mb", kernel, expansion, groups, squeeze, activation, stride, channels)
    assert Block.parse(block.name) == block
    assert Block.parse(block.choice) == Block("mb", kernel, expansion, groups, squeeze, activation)


def test_names_of_candidates_and_of_blocks():
    block = Block.parse("mb_k5_e6_g2_se_swish_s2_c24")
    assert block == Block("mb", 5, 6, 2, True, "swish", 2, 24) and block.choice == "mb_k5_e6_g2_se_swish"
    assert block.short == "k5 e6 g2 se" and Block.parse("conv_k3_s2_c32").short == "3×3"
    assert [choice_name(op) for op in ("mb_k3_e1_c16", "none", "sep_conv_3x3")] == ["mb_k3_e1", "none", "sep_conv_3x3"]
    assert (
        find_block("mb_k3_c16") is None and find_block("conv_k3_e6_c16") is None
    )  # an expansion is of inverted residuals


@pytest.mark.parametrize(
    "name, words",
    [("mb_k4_e6", "use an odd kernel"), ("mb_k3_e0", "numbers of 1 or more"), ("mb_3x3", "write mb_k3_e6")],
)
def test_blocks_that_cannot_be(name, words):
    with pytest.raises(OcheError, match=words):
        Block.parse(name)


def test_a_chain_is_one_cell_and_its_text_a_list():
    text = "Genotype(chain=['conv_k3_s2_c32', 'mb_k3_e1_c16', 'mb_k5_e6_g2_se_swish_s2_c24', 'none', 'conv_k1_c64'])"
    assert str(CHAIN) == text and Genotype.parse(text) == CHAIN and Genotype.parse(f"epoch 3 found {text}\n") == CHAIN
    assert CHAIN.chain.edges[2] == ("mb_k5_e6_g2_se_swish_s2_c24", 2, 3) and CHAIN.chain.concat == (5,)
    assert is_chain(CHAIN) and not is_chain(get("DARTS_V2"))
    blocks = chain_blocks(CHAIN)
    assert [block and block.channels for block in blocks] == [32, 16, 24, None, 64]
    assert cell_blocks(get("DARTS_V2").normal) is None and cell_blocks(get("RESNET").cells["cell"]) is None


@pytest.mark.parametrize(
    "operations, words",
    [
        ([], "no blocks"),
        (["conv_k3_c8"], "begins and ends with a convolution"),
        (["mb_k3_e1_c8", "conv_k1_c8"], "begins and ends with a convolution"),
        (["conv_k3_c8", "mb_k3_e1", "conv_k1_c8"], "no chain of blocks"),  # how wide?
        (["conv_k3_c8", "sep_conv_3x3", "conv_k1_c8"], "no chain of blocks"),
    ],
)
def test_chains_that_cannot_be_built(operations, words):
    with pytest.raises(OcheError, match=words):
        chain_genotype(operations)


def test_other_genotypes_are_no_chains():
    with pytest.raises(OcheError, match="with normal, reduce is no chain of blocks"):
        chain_blocks(get("DARTS_V2"))


def test_widths_are_multiples_of_8_and_lose_10_percent_at_most():
    assert [round_channels(c) for c in (1, 11, 12, 16.8, 33.6, 44)] == [
        8,
        16,
        16,
        16,
        32,
        48,
    ]  # 11 to 8 would lose 27 %
    # The released network 1.4 times as wide, but for two stages: of 32 channels, and of 192.
    made, released = scale_width(get("PROXYLESS_MOBILE"), 1.4), get("PROXYLESS_MOBILE_14")
    pairs = [
        (a.channels, b.channels) for a, b in zip(chain_blocks(made), chain_blocks(released), strict=True) if a and b
    ]
    assert {pair for pair in pairs if pair[0] != pair[1]} == {(48, 40), (272, 256)}
    narrow = chain_blocks(scale_width(get("MOBILENET_V2"), 0.5, first=False))
    assert (narrow[0].channels, narrow[1].channels, narrow[-1].channels) == (32, 8, 1280)
    with pytest.raises(OcheError, match="use width > 0"):
        scale_width(CHAIN, 0.0)
