"""Networks as large as recipes build them."""

from __future__ import annotations

import pytest

import oche
from oche.core.errors import OcheError
from oche.core.optimizers import Sgd
from oche.cost import parameters
from oche.cost.expected_cost import COUNTS, cost_model
from oche.spaces import nb201
from oche.training.image_recipes import RECIPES
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


def test_the_benchmarks_recipe():
    r = RECIPES["nb201"]()
    assert (r.channels, r.cells, r.epochs, r.batch, r.auxiliary, r.drop_path, r.cutout) == (16, 5, 200, 256, 0, 0, 0)
    assert r.w == Sgd(lr=0.1, lr_min=0.0, momentum=0.9, decay=5e-4, clip=0.0, nesterov=True)


def test_darts_cells_keep_their_defaults():
    assert oche.build("DARTS_V2", classes=3, channels=2).skeleton.cells == 20
    assert oche.build("DARTS_V2", classes=3, cells=3).skeleton.channels == 36
    assert nb201().recipe == "nb201" and oche.spaces.darts().recipe == "darts"
