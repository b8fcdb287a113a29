"""The batches of a search: of images or of text, as the networks of its space take them."""

from __future__ import annotations

from typing import Any

from oche.devices.engine import Engine
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.training.image_batches import ImageBatches
from oche.training.text_batches import TextBatches


def make_batches(data: Any, space: Space, recipe: SearchRecipe, seed: int, engine: Engine) -> Any:
    """Return the `ImageBatches` or `TextBatches` that a search of ``space`` draws from ``data``."""
    return _MAKE[space.domain](data, space, recipe, seed, engine)


def check_data(data: Any, space: Space, recipe: SearchRecipe) -> None:
    """Raise `OcheError` if ``data`` are too few for the search, or of another kind than ``space`` takes. Draws nothing."""
    space.check_domain(data)
    _CHECK[space.domain](data, space, recipe)


_MAKE = {"images": lambda data, space, *rest: ImageBatches(data, *rest), "text": TextBatches}
_CHECK = {"images": lambda data, space, recipe: ImageBatches.check(data, recipe), "text": TextBatches.check}
