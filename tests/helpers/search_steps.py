"""Searches on tiny images, taken step by step."""

import torch

from oche.bilevel.search import Search
from oche.core.optimizers import Adam, Sgd
from oche.devices.engine import Engine
from oche.methods.recipe import SearchRecipe
from tiny_images import dataset, space

DOUBLE = Engine("cpu", dtype=torch.float64)
W, A = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=2.0), Adam(lr=0.02, decay=0.05, init=0.1)


def method(**fields):
    return SearchRecipe(**{**dict(weight_optimizer=W, arch_optimizer=A, batch=6, steps=3), **fields})


class Recorded(Search):
    """A search that tells which batches it drew."""

    def __init__(self, *args, **fields):
        super().__init__(*args, **fields)
        self.drawn = []

    def _objective(self, name, step, noise, progress):
        objective = super()._objective(name, step, noise, progress)
        self.drawn.append((name, step, objective.images, objective.labels))
        return objective


def make(method, data=None, seed=0, engine=DOUBLE, **fields):
    return Recorded(space(**fields), method, data or dataset(), seed=seed, engine=engine)
