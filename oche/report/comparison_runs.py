"""The runs that a comparison page shows: given one by one, or found in the directory of a comparison or a study."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from oche.core import atomic_files as atomic
from oche.core.errors import OcheError
from oche.report.read_run import RunData, holds_run, nested_runs, read_run

_DEEPEST = 4  # directories below the given one in which runs are looked for
_NO_SETTING = frozenset(
    {"seed", "device", "threads", "engine", "checkpoint", "data_dir", "table", "plugins", "genotype"}
)
_NAMED = ("method", "space.type", "recipe", "data")  # settings that name a group, where they tell all groups apart


@dataclass(frozen=True)
class ComparedRun:
    """A run, the trainings that belong to it, and its settings as a flat mapping: "search.w.lr" → "0.025"."""

    name: str
    run: RunData
    trainings: tuple[RunData, ...]
    random: tuple[RunData, ...]
    """trainings of random cells"""
    settings: Mapping[str, str]
    group: str = ""
    """name of the group: all runs that differ only in their seed"""


def find_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Return the runs at and below ``paths`` with short names. Raises `OcheError` where there are fewer than two."""
    places = [place for path in paths for place in _run_directories(path)]
    if len(places) < 2:
        where = ", ".join(map(str, paths))
        raise OcheError(
            f"a comparison needs two runs, and {where} {'has' if len(paths) == 1 else 'have'} {len(places)}; give several run "
            "directories, or the directory of an oche compare or oche study"
        )
    return _grouped([read_compared_run(name, place) for name, place in zip(_names(places), places, strict=True)])


def _run_directories(path: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the run directories at or below ``path``; directories inside a run belong to that run."""
    if holds_run(path):
        yield path
    elif path.is_dir() and depth <= _DEEPEST:
        inside = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if holds_run(path / "search"):  # a trial of a study: its training belongs to its search
            inside = [path / "search"]
        for child in inside:
            yield from _run_directories(child, depth + 1)
    elif not path.is_dir():
        raise OcheError(f"no run directory at {path}; give one that `oche search` or `oche train` made")


def _names(places: list[Path]) -> list[str]:
    """Return each path without the part that all share; a trial of a study is named by its group and seed."""
    whole = [place.resolve() for place in places]
    common = Path(os.path.commonpath([place.parent for place in whole]))
    names = []
    for place in whole:
        parts = [*place.relative_to(common).parts]
        trial = atomic.read_json(place.parent / "trial.json")
        if {"group", "seed"} <= {*trial}:
            parts = [*parts[:-2], f"{trial.get('name', trial['group'])} · seed {trial['seed']}"]
        names.append("/".join(p for p in parts if p not in ("trials", "search")) or place.name)
    return names


def read_compared_run(name: str, place: Path) -> ComparedRun:
    """Read the run in the directory ``place``; of a trial of a study, with the training beside it."""
    run = read_run(place.resolve())
    trainings, random = nested_runs(run)
    beside = place.parent / "train"
    if place.name == "search" and holds_run(beside):
        trainings.append(read_run(beside.resolve()))
    try:
        tree = yaml.safe_load(run.config)
    except yaml.YAMLError:
        tree = None
    return ComparedRun(name, run, tuple(trainings), tuple(random), dict(_flat(tree)) if isinstance(tree, dict) else {})


def _flat(tree: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value as text) of every leaf of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", "–" if value is None else str(value)


def differing_settings(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the settings that two or more runs have and that are not the same in all of them."""
    keys = dict.fromkeys(key for m in runs for key in m.settings)
    values = {key: [m.settings[key] for m in runs if key in m.settings] for key in keys}
    return [key for key in keys if len(values[key]) > 1 and len({*values[key]}) > 1]


def _grouped(runs: list[ComparedRun]) -> list[ComparedRun]:
    """Return the runs with their groups: runs whose settings are the same, but for `_NO_SETTING` (seed, device, ...)."""
    keys = [key for key in differing_settings(runs) if key not in _NO_SETTING]
    named = [key for key in keys if key in _NAMED]
    by_name: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for m in runs:
        by_name.setdefault(_values(m, named), set()).add(_values(m, keys))
    names_suffice = all(len(settings) == 1 for settings in by_name.values())
    return [replace(m, group=_label(m, named if names_suffice else keys)) for m in runs]


def _values(m: ComparedRun, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(m.settings.get(key, "") for key in keys)


def _label(m: ComparedRun, keys: Sequence[str]) -> str:
    # "darts · darts" would not say which is the method and which the space
    what = {"space.type": "space "} if {"method", "space.type"} <= {*keys} else {}
    parts = [
        what.get(key, "") + Path(value).name if key in _NAMED else f"{key.rpartition('.')[2]} {value}"
        for key in keys
        if (value := m.settings.get(key))
    ]
    return " · ".join(parts) or m.settings.get("method") or m.settings.get("recipe") or "all"
