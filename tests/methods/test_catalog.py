"""The table of methods: every entry takes changes, has a source, and goes through a file; the closest entry is found."""

from dataclasses import replace

import pytest

from oche.core.config.serialize import from_dict, to_dict
from oche.methods.catalog import METHODS, closest_name
from oche.runs.config import SearchConfig
from oche.training.image_recipes import RECIPES, small


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_changes_has_a_source_and_goes_through_a_file(name):
    entry = METHODS[name]
    made = entry.make(epochs=3, batch=8)
    assert made == replace(entry.make(), epochs=3, batch=8)
    assert entry.paper and entry.differs and 2000 < entry.year < 2100
    assert from_dict(SearchConfig(), to_dict(SearchConfig(search=made))).search == made


def test_closest_name():
    made = {name: entry.make() for name, entry in METHODS.items()}
    for name, method in made.items():
        assert closest_name(method, made) == name
        assert closest_name(replace(method, epochs=1, batch=2, warmup=0.5), made) == name
    recipes = {name: make() for name, make in RECIPES.items()}
    assert closest_name(small(epochs=2, batch=3), recipes) == "small"
