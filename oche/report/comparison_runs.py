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
from oche.report.read_run import Run, holds_run, nested, read_run

_DEEPEST = 4  # directories below the given one in which runs are looked for
_OWN = frozenset({"seed", "device", "threads", "engine", "checkpoint", "data_dir", "table", "plugins", "genotype"})
_NAMED = ("method", "space.type", "recipe", "data")  # what tells groups apart, if it suffices


@dataclass(frozen=True)
class Member:
    """A run with the trainings that belong to it, and its settings as one flat mapping: "search.w.lr" → "0.025"."""

    name: str
    run: Run
    trainings: tuple[Run, ...]
    random: tuple[Run, ...]
    settings: Mapping[str, str]
    group: str = ""  # what it shares with runs of other seeds


def members(paths: Sequence[Path]) -> list[Member]:
    """The runs at and below ``paths``, named shortly. Raises `OcheError` where there are fewer than two."""
    places = [place for path in paths for place in _places(path)]
    if len(places) < 2:
        where = ", ".join(map(str, paths))
        raise OcheError(
            f"a comparison needs two runs, and {where} {'has' if len(paths) == 1 else 'have'} {len(places)}; give several run "
            "directories, or the directory of an oche compare or oche study"
        )
    return _grouped([member(name, place) for name, place in zip(_names(places), places, strict=True)])


def _places(path: Path, depth: int = 0) -> Iterator[Path]:
    """Directories of runs at or below ``path``; what lies inside a run is its own."""
    if holds_run(path):
        yield path
    elif path.is_dir() and depth <= _DEEPEST:
        inside = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if holds_run(path / "search"):  # a trial of a study: its training belongs to its search
            inside = [path / "search"]
        for child in inside:
            yield from _places(child, depth + 1)
    elif not path.is_dir():
        raise OcheError(f"no run directory at {path}; give one that `oche search` or `oche train` made")


def _names(places: list[Path]) -> list[str]:
    """Paths below what all have in common; a trial of a study is called by what it is, not by its directory."""
    whole = [place.resolve() for place in places]
    common = Path(os.path.commonpath([place.parent for place in whole]))
    names = []
    for place in whole:
        parts = [*place.relative_to(common).parts]
        trial = atomic.read_json(place.parent / "trial.json")
        if {"group", "seed"} <= {*trial}:
            parts = [*parts[:-2], f"{trial['group']} · seed {trial['seed']}"]
        names.append("/".join(p for p in parts if p not in ("trials", "search")) or place.name)
    return names


def member(name: str, place: Path) -> Member:
    """The run at ``place``; of a trial of a study, with the training beside it."""
    run = read_run(place.resolve())
    trainings, random = nested(run)
    beside = place.parent / "train"
    if place.name == "search" and holds_run(beside):
        trainings.append(read_run(beside.resolve()))
    try:
        tree = yaml.safe_load(run.config)
    except yaml.YAMLError:
        tree = None
    return Member(name, run, tuple(trainings), tuple(random), dict(_flat(tree)) if isinstance(tree, dict) else {})


def _flat(tree: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", "–" if value is None else str(value)


def differing(all_of: Sequence[Member]) -> list[str]:
    """Settings that two or more runs have, and not all alike."""
    keys = dict.fromkeys(key for member in all_of for key in member.settings)
    values = {key: [m.settings[key] for m in all_of if key in m.settings] for key in keys}
    return [key for key in keys if len(values[key]) > 1 and len({*values[key]}) > 1]


def _grouped(all_of: list[Member]) -> list[Member]:
    """Members with their groups: runs that differ in nothing but the seed, and where and of what they were made."""
    keys = [key for key in differing(all_of) if key not in _OWN]
    named = [key for key in keys if key in _NAMED]
    alike: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for m in all_of:
        alike.setdefault(_values(m, named), set()).add(_values(m, keys))
    suffices = all(len(inner) == 1 for inner in alike.values())
    return [replace(m, group=_label(m, named if suffices else keys)) for m in all_of]


def _values(member: Member, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(member.settings.get(key, "") for key in keys)


def _label(member: Member, keys: Sequence[str]) -> str:
    parts = [
        Path(value).name if key in _NAMED else f"{key.rpartition('.')[2]} {value}"
        for key in keys
        if (value := member.settings.get(key))
    ]
    return " · ".join(parts) or member.settings.get("method") or member.settings.get("recipe") or "all"
