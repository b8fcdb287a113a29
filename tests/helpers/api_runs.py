"""What these tests share."""

from dataclasses import replace

import oche
from oche.runs.config import SearchConfig


def config(**fields):
    space = oche.spaces.darts(channels=2, cells=3, nodes=1)
    return replace(SearchConfig(limit=60, space=space, search=oche.methods.darts(steps=1, batch=16)), **fields)
