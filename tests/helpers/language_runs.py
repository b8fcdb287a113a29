"""Trainings of tiny language models from the command line."""

import oche
from oche.networks.language_model import Dropouts
from oche.training.language_recipes import LanguageRecipe, PlainSgd

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
TINY = dict(width=5, batch=4, bptt=6, epochs=3, dropouts=Dropouts(words=0.1), w=PlainSgd(lr=1.0))


def make(text, out="x", genotype=CELL, **fields):
    return oche.train(genotype, text, recipe=LanguageRecipe(**{**TINY, **fields}), out=text.parent / out, device="cpu")
