"""Recipes of language models: published settings, changes, and what is refused."""

import math

import pytest

import oche
from oche.core.errors import OcheError
from oche.networks.language_model import Dropouts
from oche.networks.lstm import LSTMNetwork
from oche.training.language_recipes import RECIPES, LanguageRecipe, PlainSgd, is_language, recurrent, recurrent_small

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1), ('sigmoid', 1)], concat=range(1, 4))"


def test_published_recipe():
    r = recurrent()
    assert (r.width, r.batch, r.bptt, r.varying, r.patience) == (850, 64, 35, True, 5)
    assert r.w == PlainSgd(lr=20.0, decay=8e-7, clip=0.25)
    assert r.dropouts == Dropouts(output=0.75, hidden=0.25, input=0.75, embedding=0.2, words=0.1)
    assert (r.temporal, r.activation, r.valid_batch, r.test_batch) == (1e-3, 0.0, 10, 1)
    net = r.network(oche.genotypes.DARTS_RNN_V2, 10_000)
    assert sum(w.numel() for w in net.parameters()) == 22_960_000 and net.dropouts == r.dropouts


def test_small_recipe_and_changes():
    assert (recurrent_small().width, recurrent_small().epochs) == (128, 10)
    assert recurrent_small(epochs=3).epochs == 3 and set(RECIPES) == {"recurrent", "recurrent-small"}
    assert isinstance(recurrent_small().network("lstm", 20), LSTMNetwork)


def test_which_genotypes_are_of_language_models():
    assert is_language("lstm") and is_language(CELL) and is_language("DARTS_RNN_V1")
    assert is_language(oche.genotypes.ENAS_RNN) and not is_language("DARTS_V2")
    with pytest.raises(OcheError, match="a language model takes one 'recurrent' cell"):
        recurrent().network("DARTS_V2", 10)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 0}, "width=0 is too small"),
        ({"batch": 0, "bptt": -1}, "batch=0, bptt=-1 is too small"),
        ({"test_batch": 0}, "test_batch=0"),
        ({"temporal": -1.0}, "temporal=-1.0"),
        ({"activation": math.inf}, "activation=inf"),
        ({"patience": 0}, "use .* patience >= 1"),
        ({"epochs": 0}, "epochs=0"),
        ({"steps": 3, "budget": "1m"}, "contradict"),
    ],
)
def test_impossible_recipes_are_refused(fields, words):
    with pytest.raises(OcheError, match=words):
        LanguageRecipe(**fields)


@pytest.mark.parametrize("fields", [{"lr": 0.0}, {"lr": math.inf}, {"decay": -1.0}, {"clip": math.nan}])
def test_impossible_optimisers_are_refused(fields):
    with pytest.raises(OcheError, match="cannot train; use lr > 0"):
        PlainSgd(**fields)
