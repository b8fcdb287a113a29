"""A chain as a strip: every block with its numbers, in the picture and in the text."""

import re

from oche.core.blocks import chain_genotype
from oche.core.genotypes import get
from oche.report.comparison_cells import mark_differences
from oche.report.drawings.cell import cell_svg
from oche.report.drawings.chain import chain_links, chain_scene, chain_text
from oche.report.drawings.scene import Box, Label
from oche.report.terminal import cell_text, genotype_text

CELL = chain_genotype(["conv_k3_s2_c8", "mb_k5_e3_c8", "none", "mb_k3_e6_s2_c16", "conv_k1_c32"]).chain
LATENCIES = {1: 0.5, 2: 2.0, 4: 1.0}


def test_the_links_of_a_chain():
    links = chain_links(CELL)
    assert [link.node for link in links] == [1, 2, 3, 4, 5] and links[2].block is None
    assert chain_links(get("DARTS_V2").normal) is None and chain_links(get("DARTS_RNN_V2").recurrent) is None


def test_the_picture_has_every_block_and_its_latency():
    scene = chain_scene(chain_links(CELL), "found", LATENCIES)
    texts = [shape.text for shape in scene.shapes if isinstance(shape, Label)]
    assert texts == [
        "found",
        "3×3",
        "8",
        "/2",
        "0.5 ms",
        "k5 e3",
        "8",
        "2 ms",
        "–",
        "k3 e6",
        "16",
        "/2",
        "1 ms",
        "1×1",
        "32",
    ]
    boxes = {shape.tip: shape for shape in scene.shapes if isinstance(shape, Box)}
    assert (
        boxes["layer 4: mb_k3_e6_s2_c16"].height
        > boxes["layer 2: mb_k5_e3_c8"].height
        > boxes["layer 3: left out"].height
    )
    assert boxes["2 ms"].height == 2 * boxes["1 ms"].height
    assert all(b.x >= 0 and b.x + b.width <= scene.width and b.y + b.height <= scene.height for b in boxes.values())
    assert cell_svg(CELL, "found", latencies=LATENCIES).count("<rect") == 1 + len(boxes)


def test_long_chains_are_wrapped():
    scene = chain_scene(chain_links(get("FBNET_C").chain))
    assert scene.width < 1000 and len({shape.y for shape in scene.shapes if isinstance(shape, Box)}) >= 2


def test_the_text_has_a_line_for_each_block():
    lines = chain_text(chain_links(CELL), 63, LATENCIES).splitlines()
    assert [re.sub("[█ ]+", " ", line).strip() for line in lines] == [
        "block stride channels ms", "1 3×3 2 8 0.5", "2 k5 e3 8 2", "3 –", "4 k3 e6 2 16 1", "5 1×1 32", "known 3.5",
    ]  # fmt: skip
    assert lines[2].count("█") == 2 * lines[4].count("█") == 4 * lines[1].count("█") > 0
    assert max(map(len, lines)) <= 63
    plain = cell_text(CELL).splitlines()
    assert len(plain) == 6 and "ms" not in plain[0] and plain[4].count("█") > plain[2].count("█")
    assert genotype_text(get("MOBILENET_V2")).startswith("chain\n─────\n")


def test_differences_are_marked():
    other = chain_genotype(["conv_k3_s2_c8", "mb_k5_e3_c8", "mb_k3_e3_c8", "mb_k3_e3_s2_c16", "conv_k1_c32"]).chain
    marked, text = mark_differences(other, CELL)
    assert text.startswith("2 of 5 edges only here")
    links = chain_links(marked)
    assert [link.marked for link in links] == [False, False, True, True, False] and links[2].block.expansion == 3
    assert "✱ k3 e3" in cell_text(marked) and cell_svg(marked).count("✱ k3 e3") == 2
