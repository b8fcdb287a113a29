"""What a study's files say about how it was made, gathered once for `oche.study.nas_checklist`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.core import atomic_files as atomic
from oche.core.config.yaml_files import read_yaml
from oche.study.groups import Arena
from oche.study.results import Row, about
from oche.study.trial import RANDOM

RUNS = ("search", "train")


@dataclass(frozen=True)
class Facts:
    """``asked``: study.yaml; ``trials``: trial.json of each; ``environments``: environment.json of every run there is."""

    rows: tuple[Row, ...]
    arenas: tuple[Arena, ...]
    asked: dict[str, Any]
    trials: tuple[dict[str, Any], ...]
    environments: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, study: Path, rows: tuple[Row, ...], arenas: tuple[Arena, ...]) -> Facts:
        trials = tuple(about(row.path) for row in rows)
        found = (atomic.read_json(row.path / part / "environment.json") for row in rows for part in RUNS)
        return cls(rows, arenas, read_yaml(study / "study.yaml"), trials, tuple(e for e in found if e))

    def distinct(self, *names: str) -> list[str]:
        """The different values of the first of ``names`` that an environment has, over all runs, as text."""
        values = (next((e[name] for name in names if e.get(name) is not None), None) for e in self.environments)
        return sorted({str(value) for value in values if value is not None})

    def differing(self, part: str, free: tuple[str, ...]) -> list[str]:
        """Dotted keys of the configurations ``part`` ("search", "train") in which trials differ, those in ``free`` apart.

        Random cells have no search to differ in.
        """
        told = [t for t in self.trials if t.get(part) and (part != "search" or t["labels"]["method"] != RANDOM)]
        trees = [dict(_leaves(trial[part])) for trial in told]
        keys = dict.fromkeys(key for tree in trees for key in tree)
        differ = [key for key in keys if len({repr(tree.get(key)) for tree in trees}) > 1]
        return [key for key in differ if not any(key == f or key.startswith(f"{f}.") for f in free)]

    @property
    def lengths(self) -> list[str]:
        """How long searches go on: "600 steps", "50 epochs", each once. Time counts before steps, steps before epochs."""
        told = [t["search"]["search"] for t in self.trials if t["labels"]["method"] != RANDOM]
        units = ("budget", "steps", "epochs")
        used = [next((unit, tree[unit]) for unit in units if tree.get(unit) is not None) for tree in told]
        return [*dict.fromkeys(str(value) if unit == "budget" else f"{value} {unit}" for unit, value in used)]

    @property
    def tables(self) -> list[str]:
        """Tables of NAS-Bench-201 that trials were given."""
        return sorted({table for trial in self.trials if (table := trial["search"].get("table"))})

    @property
    def seeds(self) -> dict[str, int]:
        """Finished seeds of each group, by its arena and name."""
        of_groups = ((arena, group) for arena in self.arenas for group in arena.groups)
        return {f"{a.name}: {g.name}": sum(row.state == "complete" for row in g.rows) for a, g in of_groups}


def _leaves(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield at, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{at}.{key}" if at else str(key))
