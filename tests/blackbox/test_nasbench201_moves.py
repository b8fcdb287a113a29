"""Draws, mutations, neighbours, keys and encodings of cells of NAS-Bench-201, counted by hand."""

import random
from collections import Counter
from itertools import product

import numpy as np
import pytest

from made_scores import moves
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS, canonical, parse, to_text

BENCHMARK = BenchmarkMoves(OPERATIONS)


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


def test_what_the_candidates_do_not_allow_is_said():
    with pytest.raises(OcheError, match="lack it"):
        moves(("skip_connect", "nor_conv_3x3")).smallest()
    with pytest.raises(OcheError, match="avg_pool_3x3"):
        moves().values(BENCHMARK.build((4,) * 6))
