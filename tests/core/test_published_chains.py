"""The tables of published chains."""

from oche.core.genotypes import get
from oche.core.published_chains import chain


def test_a_table_becomes_a_chain():
    made = chain(["conv_k3_s2_c8"], (16, 24), (1, 2), "31 | 56g - 36", "conv_k1_c32")
    assert [op for op, _, _ in made.chain.edges] == [
        "conv_k3_s2_c8", "mb_k3_e1_c16", "mb_k5_e6_g2_s2_c24", "none", "mb_k3_e6_c24", "conv_k1_c32",
    ]  # fmt: skip


def test_the_published_chains_have_their_layers():
    layers = {
        name: len(get(name).chain.edges) for name in ("MOBILENET_V2", "PROXYLESS_CPU", "FBNET_A", "FBNET_B", "FBNET_C")
    }
    assert layers == {"MOBILENET_V2": 19, "PROXYLESS_CPU": 24, "FBNET_A": 24, "FBNET_B": 24, "FBNET_C": 24}
    left_out = [op for op, _, _ in get("PROXYLESS_GPU").chain.edges].count("none")
    assert left_out == 8
