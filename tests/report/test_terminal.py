"""Cells in the terminal: no line too wide, no edge missing."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oche.core.architecture import Cell, Genotype, cell_title
from oche.core.blocks import is_chain
from oche.core.genotypes import GENOTYPES, resolve
from oche.report.drawings.scene import columns
from oche.report.terminal import cell_text, genotype_text
from report_runs import AMOEBA_LIKE, DARTS_V2, RECURRENT, chain, random_cell

CELLS = st.builds(random_cell, st.integers(0, 10**6), nodes=st.integers(1, 8))


def operations(cell: Cell) -> Counter:
    return Counter(op for op, _, _ in cell.edges)


def assert_complete(cell: Cell, width: int) -> None:
    text = cell_text(cell, width)
    assert max(columns(line) for line in text.splitlines()) <= width
    words = Counter(re.findall(r"[\w\d]+", text))
    assert all(words[op] >= n for op, n in operations(cell).items()), text
    output = re.search(r"(?:concat|mean)\(([\d,\s]*)\)|node (\d+) ─▶ out", text)
    if (
        cell.inputs == 1 and len(cell.concat) == 1 and output and output[2]
    ):  # NAS-Bench-201: its last node is its output
        assert int(output[2]) == cell.concat[0]
        return
    assert output and [int(n) for n in re.findall(r"\d+", output[1])] == list(cell.concat)


@given(CELLS, st.integers(30, 120))
@settings(max_examples=60)
def test_cells_fit_the_terminal(cell, width):
    assert_complete(cell, width)


@pytest.mark.parametrize("name", GENOTYPES)
def test_published_genotypes_fit_80_columns(name):
    genotype = resolve(name)
    for cell in genotype.cells.values():
        if not is_chain(genotype):  # which writes blocks otherwise, see tests/report/drawings/test_chain.py
            assert_complete(cell, 80)
    text = genotype_text(genotype)
    assert all(cell_title(kind) in text for kind in genotype.cells)
    assert max(columns(line) for line in text.splitlines()) <= 80


def test_every_tree_joins_its_edges_into_its_node():
    text = cell_text(Genotype.parse(DARTS_V2).normal)
    assert text.splitlines() == [
        "c_{k-2} ── sep_conv_3x3 ─┐       c_{k-2} ── sep_conv_3x3 ─┐",
        "c_{k-1} ── sep_conv_3x3 ─┴▶ 2    c_{k-1} ── sep_conv_3x3 ─┴▶ 3",
        "",
        "c_{k-1} ── sep_conv_3x3 ─┐       c_{k-2} ── skip_connect ─┐",
        "c_{k-2} ── skip_connect ─┴▶ 4          2 ── dil_conv_3x3 ─┴▶ 5",
        "",
        "concat(2, 3, 4, 5) ─▶ c_k",
    ]


@pytest.mark.parametrize(
    "cell", [chain(), *Genotype.parse(RECURRENT).cells.values(), *Genotype.parse(AMOEBA_LIKE).cells.values()]
)
@pytest.mark.parametrize("width", [40, 80])
def test_special_cells_fit(cell, width):
    assert_complete(cell, width)


def test_names_that_fit_nowhere_are_not_lost():
    cell = Cell((("x" * 90, 0, 2), ("y" * 90, 1, 2)), (2,))
    text = cell_text(cell, 80)
    assert "x" * 90 in text and "y" * 90 in text


def test_a_cell_of_nas_bench_201_ends_in_its_last_node():
    text = genotype_text(resolve("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"))
    assert text.splitlines() == [
        "cell",
        "────",
        "                            in ── none ─────────┐",
        "in ── nor_conv_3x3 ──▶ 1     1 ── skip_connect ─┴▶ 2",
        "",
        "in ── none ─────────┐",
        " 1 ── nor_conv_1x1 ─┤",
        " 2 ── avg_pool_3x3 ─┴▶ 3",
        "",
        "node 3 ─▶ out",
    ]
