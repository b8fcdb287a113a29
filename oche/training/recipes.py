"""All recipes of final networks by name, and the default recipe of a genotype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from oche.core.blocks import is_chain
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.cost.breakdown import SUPERNET
from oche.networks.build import SIZES
from oche.spaces.base import Space
from oche.training import image_recipes, language_recipes
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import LanguageRecipe, is_language

RECIPES: dict[str, Callable[..., Recipe | LanguageRecipe]] = {**image_recipes.RECIPES, **language_recipes.RECIPES}


def default_for(genotype: str) -> tuple[dict[str, Any], str]:
    """Return the defaults for a ``genotype`` given as text: (fields of a `TrainConfig`, name of the data).

    The text may be empty.
    """
    if genotype and is_language(genotype):
        return {"recipe": "recurrent", "train": language_recipes.recurrent()}, "ptb"
    if genotype and is_chain(resolve(genotype)):
        return {"recipe": "chain", "train": image_recipes.chain()}, "digits"
    return {}, "digits"


def space_at_recipe_size(space: Space, recipe: str) -> Space:
    """Return ``space`` with the network size of the recipe named ``recipe``; "supernet" leaves its size unchanged.

    Raises `OcheError` if the space has no networks for images, or if there is no such recipe.
    """

    if space.domain != "images":
        raise OcheError(
            f"costs are known of networks for images, and this space is one for {space.domain}; use another --space"
        )
    if recipe == SUPERNET:
        return space
    if recipe not in RECIPES or not isinstance(made := RECIPES[recipe](), Recipe):
        known = [name for name, make in RECIPES.items() if isinstance(make(), Recipe)]
        raise OcheError(f"{recipe!r} is no recipe of networks for images; use {', '.join(known)} or {SUPERNET}")
    return space_at_size_of(space, made)


def space_at_size_of(space: Space, recipe: Recipe) -> Space:
    """Return ``space`` with the network size of ``recipe``."""
    space_fields = {f.name for f in fields(space)}
    return replace(space, **{name: getattr(recipe, name) for name in SIZES if name in space_fields})
