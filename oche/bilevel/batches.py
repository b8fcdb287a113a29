"""The feed of a search, by what the networks of its space take."""

from __future__ import annotations

from typing import Any

from oche.devices.engine import Engine
from oche.methods.method import Method
from oche.spaces.base import Space
from oche.training.image_batches import Feed
from oche.training.text_batches import TextFeed


def feed(data: Any, space: Space, method: Method, seed: int, engine: Engine) -> Any:
    """What ``method`` is fed in ``space``: batches, their losses, and where they were left."""
    return _MAKE[space.domain](data, space, method, seed, engine)


def check(data: Any, space: Space, method: Method) -> None:
    """Raises `OcheError` where ``data`` are too few, or of another kind than ``space`` takes; draws nothing."""
    space.check_domain(data)
    _CHECK[space.domain](data, space, method)


_MAKE = {"images": lambda data, space, *rest: Feed(data, *rest), "text": TextFeed}
_CHECK = {"images": lambda data, space, method: Feed.check(data, method), "text": TextFeed.check}
