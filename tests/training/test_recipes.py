"""Networks as large as recipes build them."""

import pytest

import oche
from oche.core.errors import OcheError
from oche.cost import parameters
from oche.cost.expected_cost import COUNTS, cost_model
from oche.training.recipes import space_at_recipe_size


def test_networks_as_large_as_a_recipe_builds_them():
    space = space_at_recipe_size(oche.spaces.darts(), "darts")
    assert (space.channels, space.cells) == (36, 20)
    found = cost_model(space, COUNTS["parameters"])
    assert found.of(oche.genotypes.DARTS_V2) == 3349342 == parameters(oche.build("DARTS_V2", classes=10))
    assert space_at_recipe_size(space, "supernet") is space
    assert space_at_recipe_size(oche.spaces.seed(), "seed").head == (4096, 1024, 256)


def test_sizes_that_are_none():
    with pytest.raises(OcheError, match="'drats' is no recipe of networks for images; use darts, "):
        space_at_recipe_size(oche.spaces.darts(), "drats")
    with pytest.raises(OcheError, match="costs are known of networks for images"):
        space_at_recipe_size(oche.spaces.recurrent(), "darts")
