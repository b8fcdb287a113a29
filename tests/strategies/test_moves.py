"""Draws, mutations, neighbours, keys and encodings of genotypes, counted by hand."""

import random
from collections import Counter
from itertools import product

import numpy as np
import pytest

import oche
from made_scores import moves
from oche.core.architecture import Dag
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS, canonical, parse, to_text
from oche.strategies.moves import BenchmarkMoves, ConvMoves, moves_of

BENCHMARK = BenchmarkMoves(OPERATIONS)
SMALL = ConvMoves(
    {"normal": Dag(nodes=2), "reduce": Dag(nodes=2)}, ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3")
)


def differing(a, b):
    return sum(x != y for x, y in zip(BENCHMARK.values(a), BENCHMARK.values(b), strict=True))


def test_a_cell_of_the_benchmark_has_24_neighbours_at_distance_one():
    cell = BENCHMARK.random(random.Random(0))
    around = BENCHMARK.neighbours(cell)
    assert len({BENCHMARK.key(c) for c in around}) == 24 and {differing(cell, c) for c in around} == {1}


def test_mutations_are_uniform_over_the_neighbours():
    cell, g = BENCHMARK.random(random.Random(0)), random.Random(1)
    counts = Counter(BENCHMARK.key(BENCHMARK.mutate(cell, g)) for _ in range(4800))
    assert set(counts) == {BENCHMARK.key(c) for c in BENCHMARK.neighbours(cell)}
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 50  # chi-square, 23 degrees of freedom


def test_every_decision_gives_another_cell():
    small = moves(("none", "skip_connect"))
    assert small.size == 64 and len({small.key(cell) for cell in small.everything()}) == 64
    for values in product(range(2), repeat=6):
        assert small.values(small.build(values)) == values
    assert small.values(parse(to_text(small.build((0, 1, 0, 1, 1, 0))))) == (0, 1, 0, 1, 1, 0)  # made elsewhere


def test_the_key_of_a_benchmark_cell_is_its_text():
    cell = BENCHMARK.random(random.Random(3))
    assert BENCHMARK.key(cell) == to_text(cell)


def test_path_bits_of_the_benchmark():
    cell = BENCHMARK.build((3, 0, 2, 1, 4, 3))  # edges 01 conv3, 02 none, 12 conv1, 03 skip, 13 pool, 23 conv3
    code = BENCHMARK.encode(cell, "paths")
    assert code.shape == (155,)
    paths = [(1,), (3, 4), (3, 2, 3)]  # 03; 01 13; 01 12 23; the path 02 23 has "none"
    places = [1, 5 + 3 * 5 + 4, 5 + 25 + 3 * 25 + 2 * 5 + 3]
    assert len(paths) == 3 and np.flatnonzero(code).tolist() == places


def test_one_hot_of_the_benchmark():
    code = BENCHMARK.encode(BENCHMARK.build((0, 1, 2, 3, 4, 0)), "one-hot")
    assert np.flatnonzero(code).tolist() == [0, 6, 12, 18, 24, 25]


def test_cells_grow_by_one_edge():
    level = BENCHMARK.smallest()
    assert len(level) == 6 * 4
    grown = BENCHMARK.grow(level[0])
    assert len(grown) == 5 * 4 and {sum(v != 0 for v in BENCHMARK.values(c)) for c in grown} == {2}
    assert BENCHMARK.class_key(level[0]) == canonical(level[0])


def test_neighbours_in_the_darts_space_by_counting():
    cell = SMALL.random(random.Random(0))
    # node 2: 2 edges x 2 other operations; node 3: 2 edges x (2 operations + 1 free source); two cells
    assert len(SMALL.neighbours(cell)) == 2 * (2 * 2 + 2 * (2 + 1))
    around = {SMALL.key(c) for c in SMALL.neighbours(cell)}
    g = random.Random(1)
    assert {SMALL.key(SMALL.mutate(cell, g)) for _ in range(600)} == around


def test_decisions_of_the_darts_space():
    assert SMALL.decisions == (1, 3, 3, 3, 3, 3) * 2  # one pair of inputs, then three pairs; three operations
    one = ConvMoves({"normal": Dag(nodes=2)}, ("skip_connect", "sep_conv_3x3"))
    made = {one.key(one.build(v)) for v in product(*(range(n) for n in one.decisions))}
    assert len(made) == 1 * 4 * 3 * 4


def test_genotypes_are_those_of_the_space():
    space = oche.spaces.darts()
    made = moves_of(space).random(random.Random(0))
    assert [*made.cells] == ["normal", "reduce"] and made.normal.concat == (2, 3, 4, 5) and len(made.normal.edges) == 8
    assert "none" not in str(made)
    oche.build(made, classes=3, channels=4, cells=3)


def test_the_key_ignores_the_order_of_writing():
    a = oche.Genotype.parse("Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2])")
    b = oche.Genotype.parse("Genotype(normal=[('skip_connect', 1), ('sep_conv_3x3', 0)], normal_concat=[2])")
    one = ConvMoves({"normal": Dag(nodes=1)}, ("skip_connect", "sep_conv_3x3"))
    assert one.key(a) == one.key(b)
    assert np.flatnonzero(one.encode(a, "one-hot")).tolist() == [1, 2]


def test_darts_cells_grow_node_by_node():
    (first, *_), dag = SMALL.smallest(), Dag(nodes=2)
    assert len(SMALL.smallest()) == 9 and first.normal == first.reduce
    grown = SMALL.grow(first)
    assert len(grown) == 3 * 9 and {len(g.normal.edges) for g in grown} == {4}
    assert not SMALL.grow(grown[0]) and SMALL.encode(first, "one-hot").shape == (2 * len(dag) * 3,)


def test_what_a_space_cannot_do_is_said():
    with pytest.raises(OcheError, match="RecurrentSpace"):
        moves_of(oche.spaces.recurrent())
    with pytest.raises(OcheError, match="too many"):
        SMALL.everything()
    with pytest.raises(OcheError, match="no encoding 'paths'"):
        SMALL.encode(SMALL.random(random.Random(0)), "paths")
    with pytest.raises(OcheError, match="lack it"):
        moves(("skip_connect", "nor_conv_3x3")).smallest()
    with pytest.raises(OcheError, match="avg_pool_3x3"):
        moves().values(BENCHMARK.build((4,) * 6))
