"""The operations on the genotypes of each space."""

import random

import pytest

import oche
from oche.blackbox.darts_moves import ConvMoves
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.blackbox.space_moves import moves_of, moves_of_groups
from oche.core.errors import OcheError


def test_genotypes_are_those_of_the_space():
    space = oche.spaces.darts()
    made = moves_of(space).random(random.Random(0))
    assert [*made.cells] == ["normal", "reduce"] and made.normal.concat == (2, 3, 4, 5) and len(made.normal.edges) == 8
    assert "none" not in str(made)
    oche.build(made, classes=3, channels=4, cells=3)


def test_the_operations_follow_the_cells():
    space = oche.spaces.darts()
    assert type(moves_of_groups(space.groups, space.candidates)) is ConvMoves is type(moves_of(space))
    benchmark = oche.spaces.nb201()
    assert type(moves_of_groups({"cell": benchmark.dag}, benchmark.candidates)) is BenchmarkMoves
    with pytest.raises(OcheError, match="RecurrentSpace"):
        moves_of(oche.spaces.recurrent())
