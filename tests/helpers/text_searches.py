"""Searches on text, taken step by step."""

from oche.core.optimizers import Adam, Sgd
from oche.methods.recipe import SearchRecipe

W = Sgd(lr=0.5, lr_min=0.5, momentum=0.0, decay=0.01, clip=0.05, clip_ahead=True)
A = Adam(lr=0.02, decay=0.05, init=0.3)


def method(**fields):
    return SearchRecipe(**{**dict(weight_optimizer=W, arch_optimizer=A, batch=4, steps=6), **fields})
