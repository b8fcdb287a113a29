"""How a study was made, by its files: configurations, versions, hardware; for `oche.study.nas_checklist` and the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.core.atomic_files import read_json
from oche.core.config.yaml_files import read_yaml
from oche.methods.catalog import METHODS
from oche.study.groups import Comparison
from oche.study.results import TrialResult, read_trial_file

RUNS = ("search", "train")


@dataclass(frozen=True)
class Provenance:
    """The files of a study: ``asked`` is study.yaml, ``configs`` the trial.json of each trial, ``environments`` the
    environment.json of each run."""

    results: tuple[TrialResult, ...]
    comparisons: tuple[Comparison, ...]
    asked: dict[str, Any]
    configs: tuple[dict[str, Any], ...]
    environments: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, study: Path, results: tuple[TrialResult, ...], comparisons: tuple[Comparison, ...]) -> Provenance:
        configs = tuple(read_trial_file(trial.path) for trial in results)
        found = (read_json(trial.path / part / "environment.json") for trial in results for part in RUNS)
        return cls(results, comparisons, read_yaml(study / "study.yaml"), configs, tuple(e for e in found if e))

    def distinct(self, *names: str) -> list[str]:
        """The distinct values over all runs, as text, of the first of ``names`` that an environment has."""
        values = (next((e[name] for name in names if e.get(name) is not None), None) for e in self.environments)
        return sorted({str(value) for value in values if value is not None})

    def differing(self, part: str, free: tuple[str, ...]) -> list[str]:
        """The dotted keys, without those in ``free``, in which the configurations ``part`` ("search", "train") of trials differ.

        Random cells and strategies have no supernet, so they do not count for "search".
        """
        having = [c for c in self.configs if c.get(part) and (part != "search" or c["labels"]["method"] in METHODS)]
        trees = [dict(_leaves(config[part])) for config in having]
        keys = dict.fromkeys(key for tree in trees for key in tree)
        differ = [key for key in keys if len({repr(tree.get(key)) for tree in trees}) > 1]
        return [key for key in differ if not any(key == f or key.startswith(f"{f}.") for f in free)]

    @property
    def lengths(self) -> list[str]:
        """The distinct lengths of searches: "600 steps", "50 epochs". A budget of time overrides steps, steps override epochs."""
        searches = [c["search"]["search"] for c in self.configs if c["labels"]["method"] in METHODS]
        units = ("budget", "steps", "epochs")
        used = [next((unit, tree[unit]) for unit in units if tree.get(unit) is not None) for tree in searches]
        return [*dict.fromkeys(str(value) if unit == "budget" else f"{value} {unit}" for unit, value in used)]

    @property
    def tables(self) -> list[str]:
        """The tables of NAS-Bench-201 that trials use."""
        return sorted({table for config in self.configs if (table := config["search"].get("table"))})

    @property
    def seeds(self) -> dict[str, int]:
        """The number of finished seeds of each group, by "comparison: group"."""
        of_groups = ((comparison, group) for comparison in self.comparisons for group in comparison.groups)
        return {f"{a.name}: {g.name}": sum(trial.state == "complete" for trial in g.trials) for a, g in of_groups}


def _leaves(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield at, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{at}.{key}" if at else str(key))
