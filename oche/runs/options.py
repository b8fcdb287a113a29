"""The arguments of `oche.search` and `oche.train` in Python: names and plain words in place of spaces, methods and recipes.

``search(space="nb201", method="gdas", epochs=3)`` means what ``oche search --space nb201 --method gdas --search.epochs 3`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from oche.core.annotation_words import short
from oche.core.errors import OcheError, did_you_mean
from oche.methods.catalog import METHODS, closest_name
from oche.methods.method import Method
from oche.methods.recipe import RENAMED, SearchRecipe
from oche.runs.config import SearchConfig, TrainConfig
from oche.spaces import SPACES, Space, darts
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import LanguageRecipe
from oche.training.recipes import RECIPES

# Names of arguments beside those of a configuration.
_SEARCH_FIELDS = {f.name for f in fields(SearchConfig)} - {"space", "method", "search"}
_SEARCH_WORDS = {f.name for kind in (Method, SearchRecipe) for f in fields(kind)} - {"method"} | {*RENAMED}
_TRAIN_FIELDS = {f.name for f in fields(TrainConfig)} - {"genotype", "recipe", "train"}
_TRAIN_WORDS = {f.name for kind in (Recipe, LanguageRecipe) for f in fields(kind)}


def search_fields(space: object, method: object, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `SearchConfig`, without those of the data, for arguments of `oche.search`.

    ``space``: a `Space`, its name, or None. ``method``: a `SearchRecipe`, a `Method`, its name, or None for that of the space.
    ``options``: fields of the configuration, and fields of the recipe, which change those of ``method``. Raises `OcheError`.
    """
    made = find_space(space)
    _check_names("search", options, _SEARCH_FIELDS, _SEARCH_WORDS, made)
    name, recipe = _find_method(method, made)
    words = {word: value for word, value in options.items() if word not in _SEARCH_FIELDS}
    rest = {word: value for word, value in options.items() if word in _SEARCH_FIELDS}
    return {"space": made, "method": name, "search": replace(recipe, **words) if words else recipe, **rest}


def find_space(space: object) -> Space:
    """Return the space that ``space`` is or names; None: DARTS' space. Raises `OcheError`."""
    if space is None:
        return darts()
    if isinstance(space, str) and space in SPACES:
        return SPACES[space]()
    if isinstance(space, Space):
        return space
    raise _refused("search", "space", space, "a Space such as oche.spaces.darts()", SPACES)


def _find_method(method: object, space: Space) -> tuple[str, SearchRecipe]:
    """Return the name of the method that ``method`` is, names or is closest to, and its recipe. Raises `OcheError`."""
    if method is None or (isinstance(method, str) and method in METHODS):
        name = method or space.method
        return name, METHODS[name].for_space(space)
    if isinstance(method, Method):
        method = SearchRecipe(method)
    if not isinstance(method, SearchRecipe):
        raise _refused("search", "method", method, "a SearchRecipe such as oche.methods.darts(), a Method", METHODS)
    return closest_name(method, {name: entry.make() for name, entry in METHODS.items()}), method


def train_fields(recipe: object, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (fields of a `TrainConfig`, fields of its recipe) for arguments of `oche.train`. Raises `OcheError`.

    ``recipe``: a `Recipe`, a `LanguageRecipe`, the name of one, or None. ``options``: fields of either kind.
    """
    _check_names("train", options, _TRAIN_FIELDS, _TRAIN_WORDS, None)
    own = {word: value for word, value in options.items() if word in _TRAIN_FIELDS}
    words = {word: value for word, value in options.items() if word not in _TRAIN_FIELDS}
    if isinstance(recipe, str) and recipe in RECIPES:
        own |= {"recipe": recipe, "train": RECIPES[recipe]()}
    elif isinstance(recipe, Recipe | LanguageRecipe):
        alike = {name: made for name, make in RECIPES.items() if type(made := make()) is type(recipe)}
        own |= {"recipe": closest_name(recipe, alike), "train": recipe}
    elif recipe is not None:
        raise _refused("train", "recipe", recipe, "a recipe such as oche.training.small()", RECIPES)
    return own, words


def with_recipe_words(config: TrainConfig, words: Mapping[str, Any]) -> TrainConfig:
    """Return ``config`` with the fields ``words`` of its recipe changed. Raises `OcheError`."""
    return replace(config, train=replace(config.train, **words)) if words else config


def _check_names(call: str, options: Mapping[str, Any], known: set[str], words: set[str], space: Space | None) -> None:
    """Raise `OcheError` for the name of an option that is none."""
    for name in options:
        if name in known or name in words:
            continue
        part = {"search": "method", "train": "recipe"}[call]
        if name == call:
            instead = f"; give it as {part}="
        elif name == "genotype":
            instead = "; give it as the first argument"
        elif space is not None and name in {f.name for f in fields(space)}:
            instead = f"; it belongs to the space; write it as space=oche.spaces.{_maker(space)}({name}=...)"
        else:
            instead = did_you_mean(name, sorted(known | words)) or (
                f"; known: {', '.join(sorted(known))}, and the fields of the {part}: {', '.join(sorted(words))}"
            )
        raise OcheError(f"{call} has no argument {name!r}{instead}")


def _maker(space: Space) -> str:
    return next((name for name, make in SPACES.items() if type(make()) is type(space)), type(space).__name__)


def _refused(call: str, name: str, value: object, takes: str, table: Mapping[str, Any]) -> OcheError:
    """Return the error for ``value``, which is neither of the right type nor a name in ``table``."""
    if isinstance(value, str):
        return OcheError(
            f"unknown {name} {value[:60]!r}{did_you_mean(value[:60], [*table])}; {call} takes {takes}, "
            f"or one of {', '.join(table)}"
        )
    called = getattr(value, "__name__", "")
    hint = f"; call it: {called}()" if callable(value) and called.isidentifier() else ""
    return OcheError(
        f"{call} takes {takes} or one of the names {', '.join(table)} as {name}, found {short(value)}{hint}"
    )
