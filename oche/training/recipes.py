"""All recipes of final networks by name, and which of them a genotype and data go with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oche.core.errors import OcheError
from oche.data import is_text
from oche.training import image_recipes, language_recipes
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import LanguageRecipe, is_language

if TYPE_CHECKING:
    from oche.runs.config import TrainConfig

RECIPES: dict[str, Callable[..., Recipe | LanguageRecipe]] = {**image_recipes.RECIPES, **language_recipes.RECIPES}


def default_for(genotype: str) -> tuple[dict[str, Any], str]:
    """(fields of a `TrainConfig`, data) for a ``genotype`` of which only its text is known; it may be empty."""
    if genotype and is_language(genotype):
        return {"recipe": "recurrent", "train": language_recipes.recurrent()}, "ptb"
    return {}, "digits"


def check_domains(config: TrainConfig) -> None:
    """Raises `OcheError` where genotype, recipe and data are not all of images, or all of text; reads no data."""
    cell = "text" if is_language(config.genotype) else "images"
    made = {
        "text": "recurrent cells (and lstm) make language models",
        "images": "this genotype makes networks for images",
    }[cell]
    if config.train.domain != cell:
        use = {"text": "recurrent or recurrent-small", "images": "darts, say"}[cell]
        raise OcheError(
            f"{made}, and the recipe {config.recipe!r} is one for {config.train.domain}; write --recipe {use}"
        )
    if is_text(config.data) != (cell == "text"):
        use = {"text": "--data ptb or a text file", "images": "--data cifar10, say"}[cell]
        found = "images" if cell == "text" else "text"
        raise OcheError(f"{made}, and {config.data} is {found}; write {use}")
