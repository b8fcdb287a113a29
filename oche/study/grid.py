"""From settings with dotted keys, as on the command line ("search.epochs": 5), to the configurations of a trial."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from oche.core.config.serialize import from_dict
from oche.core.errors import OcheError, did_you_mean
from oche.methods.catalog import METHODS
from oche.runs.config import Common, SearchConfig, TrainConfig
from oche.runs.resolve import default_search, with_absolute_paths
from oche.spaces import SPACES
from oche.spaces.nasbench201_ground_truth import table_for
from oche.strategies.catalog import STRATEGIES
from oche.strategies.config import StrategyConfig
from oche.strategies.run import make_config
from oche.study.trial import RANDOM, Trial
from oche.training.recipes import RECIPES

NONE = "none"  # the recipe for no final training
CHOICES = ("method", "space", "recipe")  # names that choose defaults; every other setting changes one value
FIXED = (
    "device",
    "threads",
    "checkpoint",
    "data_dir",
    "plugins",
)  # these change no result, so trials cannot differ in them
_COMMON = [f.name for f in fields(Common)]
_SEARCH = [f.name for f in fields(SearchConfig)]
KNOWN = [*dict.fromkeys([*_SEARCH, "recipe", "train", "strategy"])]  # the first words of settings
_SAME = ("data", "table", "data_dir", "limit", "size", "seed", "device", "threads")  # settings that a strategy shares

Settings = Mapping[str, Any]  # dotted key: value


def flat(tree: Mapping[Any, Any], place: str, allowed: Collection[str] = KNOWN) -> dict[str, Any]:
    """Return ``tree``, nested or dotted, as one level of dotted keys. Raises `OcheError` for keys whose first word is unknown."""
    found: dict[str, Any] = {}
    for key, value in _leaves(tree):
        name = key.replace("-", "_")
        if name.partition(".")[0] not in allowed:
            hint = did_you_mean(name.partition(".")[0], [*allowed]) or f"; known: {', '.join(allowed)}"
            raise OcheError(f"{place}: unknown key {key!r}{hint}")
        if name in found:
            raise OcheError(f"{place}: key {key!r} is written twice; leave one out")
        found[name] = value
    return found


def _leaves(tree: Mapping[Any, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def nested(settings: Settings) -> dict[str, Any]:
    """Return dotted keys as a tree. A component with changed fields ("a": "X", "a.b": 1) becomes {"type": "X", "b": 1}."""
    tree: dict[str, Any] = {}
    for key in sorted(settings, key=lambda key: key.count(".")):
        *parts, last = key.split(".")
        at = tree
        for part in parts:
            below = at.setdefault(part, {})
            at[part] = at = below if isinstance(below, dict) else {"type": below}
        at[last] = settings[key]
    return tree


def make_trial(settings: Settings, labels: Mapping[str, str], where: str) -> Trial:
    """Return the trial of ``settings``; ``where`` names their file in messages. Raises `OcheError`."""
    space = _named("space", settings.get("space", "darts"), SPACES, where)
    names = [*METHODS, RANDOM, *(name for name in STRATEGIES if name != RANDOM)]
    method = _named("method", settings.get("method", SPACES[space]().method), names, where)
    recipe = _named("recipe", settings.get("recipe", NONE), [*RECIPES, NONE], where)
    search = with_absolute_paths(_search(settings, space, method, where))
    search = replace(search, table=table_for(search.table, search.data, search.space))
    own = {"method": method, "space": space, "data": _short(search.data)}
    train = None if recipe == NONE else _train(settings, recipe, search, where)
    return Trial({**own, **labels}, search, train, _strategy(settings, method, search, where))


def _strategy(settings: Settings, method: str, search: SearchConfig, where: str) -> StrategyConfig | None:
    """Return the black-box search of ``settings``; None if the method searches in a supernet, or is the control."""
    if method in METHODS or method == RANDOM:
        return None
    own = {k.removeprefix("strategy."): v for k, v in settings.items() if k.startswith("strategy.")}
    evaluate = str(own.pop("evaluate", "train" if search.table is None else "table"))
    same = {name: getattr(search, name) for name in _SAME if name != "table" or evaluate == "table"}
    base = make_config(method, evaluate, search.space, same)
    return from_dict(base, nested(own), f"{where}: strategy").in_full()


def _search(settings: Settings, space: str, method: str, where: str) -> SearchConfig:
    control = method not in METHODS  # a random cell, or a strategy
    parts = [
        name for name in _SEARCH if not (control and name == "search")
    ]  # a control ignores the settings of the search
    base = default_search(space, None if control else method)
    made = from_dict(base, nested(_of(settings, parts)), where)
    return replace(made, method=method) if control else made


def _train(settings: Settings, recipe: str, search: SearchConfig, where: str) -> TrainConfig:
    common = {name: getattr(search, name) for name in _COMMON}
    base = TrainConfig(**common, recipe=recipe, train=RECIPES[recipe]())
    return from_dict(base, nested(_of(settings, ["train"])), where)


def _of(settings: Settings, parts: Collection[str]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in CHOICES and k.partition(".")[0] in parts}


def _named(what: str, name: Any, known: Collection[str], where: str) -> str:
    if isinstance(name, str) and name in known:
        return name
    raise OcheError(f"{where}: unknown {what} {name!r}{did_you_mean(str(name), [*known])}; known: {', '.join(known)}")


def _short(data: str) -> str:
    """The name of a data set, or of its file or folder."""
    return Path(data).stem if Path(data).exists() else data


def varying_labels(points: Sequence[Settings]) -> list[dict[str, str]]:
    """Return, for each of ``points``, the settings in which any two of them differ, as text; without seeds and names.

    The data are included if two files or folders have the same name.
    """
    keys = dict.fromkeys(key for point in points for key in point)
    apart = ("method", "space", "data", "seed")
    differ = [k for k in keys if k not in apart and len({repr(point.get(k)) for point in points}) > 1]
    known = {data for point in points if isinstance(data := point.get("data"), str)}
    if len({_short(data) for data in known}) < len(known):
        differ.append("data")
    return [{k: _text(point[k]) if k in point else "default" for k in differ} for point in points]


def _text(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else " ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
