"""Names and plain words as arguments of oche.search and oche.train."""

from __future__ import annotations

import pytest

import oche
from oche.core.errors import OcheError
from oche.methods.catalog import METHODS
from oche.methods.method import Method
from oche.methods.relaxations import Sigmoid
from oche.methods.stochastic_relaxations import GumbelHard
from oche.runs.options import search_fields, train_fields, with_recipe_words
from oche.runs.resolve import default_search, default_training
from oche.spaces import nb201
from oche.training import modern, small
from oche.training.language_recipes import recurrent_small


def test_names_mean_what_the_command_line_means():
    for space, method in (("nb201", "gdas"), ("darts", "pc-darts"), ("recurrent", "darts-2nd")):
        planned, found = default_search(space, method), search_fields(space, method, {})
        assert found == {"space": planned.space, "method": planned.method, "search": planned.search}


def test_without_names_the_space_chooses():
    found = search_fields(None, None, {"seed": 3})
    assert found["space"] == oche.spaces.darts() and found["method"] == "beta-darts" and found["seed"] == 3
    assert search_fields(oche.spaces.recurrent(), None, {})["method"] == "darts"


def test_words_of_the_recipe_change_the_method():
    found = search_fields("nb201", "gdas", {"epochs": 3, "seed": 1, "relax": Sigmoid(), "limit": 60})
    assert found["search"] == METHODS["gdas"].for_space(oche.spaces.nb201(), epochs=3, relax=Sigmoid())
    assert found["method"] == "gdas"
    assert found["seed"] == 1 and found["limit"] == 60 and found["space"] == nb201()
    assert search_fields(None, oche.methods.snas(), {"budget": "3m"})["search"] == oche.methods.snas(budget="3m")
    assert search_fields(None, Method(relax=GumbelHard()), {"steps": 9})["search"].steps == 9


def test_recipes_by_name_and_by_words():
    own, words = train_fields("modern", {"epochs": 3, "seed": 1, "channels": 8})
    assert own == {"recipe": "modern", "train": modern(), "seed": 1}
    config = with_recipe_words(default_training("DARTS_V2", None, own)[0], words)
    assert config.train == modern(epochs=3, channels=8) and config.recipe == "modern" and config.seed == 1
    assert train_fields(recurrent_small(), {}) == ({"recipe": "recurrent-small", "train": recurrent_small()}, {})
    assert train_fields(small(cells=3), {})[0]["recipe"] == "small"
    own, words = train_fields(None, {"budget": "3m"})
    assert with_recipe_words(default_training("DARTS_V2", None, own)[0], words).train.budget == "3m"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: search_fields("nb21", None, {}), "unknown space 'nb21'; did you mean 'nb201'?; search takes a Space"),
        (lambda: search_fields(3, None, {}), "as space, found int 3"),
        (lambda: search_fields(oche.spaces.nb201, None, {}), "found the function nb201; call it: nb201()"),
        (lambda: search_fields(None, "gads", {}), "unknown method 'gads'; did you mean 'gdas'?"),
        (lambda: search_fields(None, oche.methods.gdas, {}), "found the function gdas; call it: gdas()"),
        (lambda: search_fields(None, small(), {}), "as method, found an object of class Recipe"),
        (lambda: search_fields(None, None, {"epoch": 3}), "search has no argument 'epoch'; did you mean 'epochs'?"),
        (lambda: search_fields("nb201", None, {"channels": 3}), "write it as space=oche.spaces.nb201(channels=...)"),
        (lambda: search_fields(None, None, {"search": 3}), "search has no argument 'search'; give it as method="),
        (lambda: search_fields(None, None, {"zzz": 3}), "search has no argument 'zzz'; known: "),
        (lambda: search_fields(None, "darts", {"epochs": "3"}), "takes an integer as epochs, found text '3'"),
        (lambda: search_fields(None, "darts", {"budget": 180}), "takes text or None as budget, found int 180"),
        (lambda: train_fields("moder", {}), "unknown recipe 'moder'; did you mean 'modern'?"),
        (lambda: train_fields(oche.methods.gdas(), {}), "as recipe, found an object of class SearchRecipe"),
        (lambda: train_fields(None, {"train": small()}), "train has no argument 'train'; give it as recipe="),
        (lambda: train_fields(None, {"genotype": "x"}), "give it as the first argument"),
    ],
)
def test_everything_else_is_one_line(make, words):
    with pytest.raises(OcheError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)
