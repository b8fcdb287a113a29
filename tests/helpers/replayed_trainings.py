"""Trainings and searches on text whose steps are replayed."""

import torch

import oche
import tiny_text
from oche.bilevel.search import Search
from oche.core.optimizers import Adam, Sgd
from oche.devices.engine import Engine
from oche.methods.recipe import SearchRecipe
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training
from tiny_images import dataset

DOUBLE = Engine("cpu", dtype=torch.float64, fused="plain")
STEPS = 5
EDGES = "[('skip_connect', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 2)]"
W = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5)
CELL = oche.Genotype.parse(f"Genotype(normal={EDGES}, normal_concat=[2, 3], reduce={EDGES}, reduce_concat=[2, 3])")


def training(genotype=CELL, **fields):
    recipe = Recipe(**{**dict(channels=2, cells=3, w=W, batch=6, steps=STEPS), **fields})
    return Training(genotype, recipe, dataset(), seed=0, engine=DOUBLE, title="t")


def search(fused="plain", **fields):
    w = Sgd(lr=2.0, lr_min=1.0, momentum=0.0, decay=0.01, clip=0.25, clip_ahead=True)
    method = SearchRecipe(
        weight_optimizer=w, arch_optimizer=Adam(lr=0.02, decay=0.05, init=0.1), batch=4, steps=STEPS, **fields
    )
    engine = Engine("cpu", dtype=torch.float64, fused=fused)
    return Search(tiny_text.space(), method, tiny_text.corpus(), seed=0, engine=engine)
