"""The feed of a search, by what the networks of its space take."""

from __future__ import annotations

from typing import Any

from oche.devices.engine import Engine
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.training.image_batches import ImageBatches
from oche.training.text_batches import TextBatches


def feed(data: Any, space: Space, recipe: SearchRecipe, seed: int, engine: Engine) -> Any:
    """What ``method`` is fed in ``space``: batches, their losses, and where they were left."""
    return _MAKE[space.domain](data, space, recipe, seed, engine)


def check(data: Any, space: Space, recipe: SearchRecipe) -> None:
    """Raises `OcheError` where ``data`` are too few, or of another kind than ``space`` takes; draws nothing."""
    space.check_domain(data)
    _CHECK[space.domain](data, space, recipe)


_MAKE = {"images": lambda data, space, *rest: ImageBatches(data, *rest), "text": TextBatches}
_CHECK = {"images": lambda data, space, recipe: ImageBatches.check(data, recipe), "text": TextBatches.check}
