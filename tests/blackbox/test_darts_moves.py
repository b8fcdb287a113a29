"""Draws, mutations, neighbours, keys and encodings of cells of the DARTS space, counted by hand."""

import random
from itertools import product

import numpy as np
import pytest

import oche
from oche.blackbox.darts_moves import ConvMoves
from oche.core.architecture import Dag
from oche.core.errors import OcheError

SMALL = ConvMoves(
    {"normal": Dag(nodes=2), "reduce": Dag(nodes=2)}, ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3")
)


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


def test_what_the_space_lacks_is_said():
    with pytest.raises(OcheError, match="no encoding 'paths'"):
        SMALL.encode(SMALL.random(random.Random(0)), "paths")
    with pytest.raises(OcheError, match="too many"):
        SMALL.everything()
