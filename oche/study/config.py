"""study.yaml: read the description of a study into its trials.

For instance::

    out: runs/study        where; jobs, threads, gpus: how many at a time, see `Placement`
    recipe: small          and other settings of all trials, as on the command line: search.epochs: 10, limit: 1000
    grid:                  lists whose combinations are the trials; or a list of such grids
      method: [darts, beta-darts, random]
      seed: 0-4
    trials:                single trials, beside a grid or instead of it
      - {method: darts, seed: 0, search.order: 2}
    tune:                  settings to draw at random, see `oche.study.random_search`
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from oche.core.config.serialize import from_dict, to_dict
from oche.core.config.yaml_files import dump_plain, read_yaml
from oche.core.errors import OcheError
from oche.core.plugins import load_plugins
from oche.data.text.files import is_text
from oche.runs.resolve import absolute, locate
from oche.study.grid import FIXED, KNOWN, flat, make_trial, varying_labels
from oche.study.random_search import Tune
from oche.study.trial import Trial

_LISTS = ("grid", "trials", "tune")
_VARY = [name for name in KNOWN if name not in FIXED]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a study runs, and how many of its trials at a time. Raises `OcheError` for impossible values."""

    out: Path = Path("runs/study")
    """folder of the study"""
    jobs: int | Literal["auto"] = "auto"
    """trials at a time; auto: as many as cores (or GPUs) and memory allow"""
    threads: int = 1
    """CPU threads of each trial"""
    gpus: float = 1.0
    """share of a GPU that a trial on GPUs takes: 0.5 puts two on each"""

    def __post_init__(self) -> None:
        if self.threads < 1 or (isinstance(self.jobs, int) and self.jobs < 1):
            raise OcheError(f"jobs={self.jobs}, threads={self.threads} are too few; use 1 or more, or jobs: auto")
        if not 0 < self.gpus <= 1:
            raise OcheError(f"gpus={self.gpus} is no share of a GPU; use 0 < gpus <= 1")


@dataclass(frozen=True)
class Study:
    """A study as its file describes it: the distinct ``trials`` in order; ``text`` is the file with absolute paths."""

    place: Placement
    trials: tuple[Trial, ...]
    tune: Tune | None
    text: str

    @property
    def measure(self) -> tuple[str, Literal["max", "min"]]:
        """The record by which trials are judged after each epoch, and whether larger or smaller is better."""
        return ("val_ppl", "min") if is_text(self.trials[0].search.data) else ("val_acc", "max")

    @property
    def epochs(self) -> int:
        """The number of epochs of the part of a trial that is judged."""
        first = self.trials[0]
        return first.search.search.epochs if first.train is None else first.train.train.epochs


def read_study(path: Path, **over: Any) -> Study:
    """Read the study of the file at ``path``, or of a study's directory.

    ``over``: values of `Placement` that replace those of the file, unless they are None. Raises `OcheError`, one line with the
    file, the key, the value found and what to write.
    """
    path = path / "study.yaml" if path.is_dir() else path
    tree, where = read_yaml(path), str(path)
    own = [f.name for f in fields(Placement)]
    placed = {k: tree[k] for k in own if k in tree} | {k: v for k, v in over.items() if v is not None}
    place = from_dict(Placement(), placed, where)
    rest = {k: v for k, v in tree.items() if k not in (*own, *_LISTS)}
    common = _with_absolute_paths(flat(rest, where, [*KNOWN, *own, *_LISTS]))
    load_plugins(tuple(map(Path, common.get("plugins", ()))))
    grids = [_with_absolute_paths(_seeds(flat(g, at, _VARY), at)) for g, at in _sections(tree, "grid", where)]
    listed = [_with_absolute_paths(flat(t, at, _VARY)) for t, at in _sections(tree, "trials", where)]
    if not grids and not listed:
        raise OcheError(f"{where}: there is nothing to run; write grid: {{method: [darts, random], seed: [0, 1, 2]}}")
    tune = Tune.of(tree["tune"], where) if tree.get("tune") is not None else None
    drawn = [flat(point, f"{where}: tune.over", _VARY) for point in tune.points()] if tune else [{}]
    points = [
        {**common, "threads": place.threads, **point, **more}
        for point in itertools.chain(*map(_combinations, grids), listed)
        for more in drawn
    ]
    made = {t.id: t for t in map(lambda p, labels: make_trial(p, labels, where), points, varying_labels(points))}
    if tune:
        _check_judged(made.values(), where)
    lists = {"grid": grids, "trials": listed, "tune": tune and tune.tree}
    text = dump_plain({**to_dict(place), **common, **{k: v for k, v in lists.items() if v}})
    # Seed by seed, so that a study that ends early has as many seeds of each group.
    return Study(place, tuple(sorted(made.values(), key=lambda t: t.seed)), tune, text)


def _check_judged(trials: Iterable[Trial], where: str) -> None:
    """Raise `OcheError` if a trial of a study that tunes has no validation results to be judged by."""
    for t in trials:
        if t.control and t.train is None:
            raise OcheError(
                f"{where}: tune: {t.group} has no training to be judged by; write recipe: small, for example"
            )
        if t.train is not None and getattr(t.train.train, "split", 0) == 1:
            raise OcheError(
                f"{where}: tune judges by validation accuracies, and train.split: 1 leaves no validation images; "
                "write train.split: 0.8, for example, or recipe: none to judge by the search"
            )


def _sections(tree: dict[str, Any], name: str, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the mappings in section ``name``, a list or a single mapping, each with its place for messages."""
    found = tree.get(name)
    several = found if isinstance(found, list) else [] if found is None else [found]
    for i, section in enumerate(several):
        at = f"{where}: {name}.{i}" if isinstance(found, list) else f"{where}: {name}"
        if not isinstance(section, dict) or not section:
            raise OcheError(
                f"{at}: expected keys and values, found {section!r}; write {{method: darts, seed: 0}}, for example"
            )
        yield section, at


def _combinations(grid: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the lists in ``grid``."""
    lists = [value if isinstance(value, list) else [value] for value in grid.values()]
    for values in itertools.product(*lists):
        yield dict(zip(grid, values, strict=True))


def _seeds(grid: dict[str, Any], at: str) -> dict[str, Any]:
    """Return ``grid`` with "0-4" as the seeds 0 to 4. Raises `OcheError` for an empty list, which would leave no trial."""
    if isinstance(span := grid.get("seed"), str):
        found = re.fullmatch(r"(\d+)-(\d+)", span.replace(" ", ""))
        first, last = map(int, found.groups()) if found else (1, 0)
        if last < first:
            raise OcheError(f"{at}.seed: expected seeds, found {span!r}; write 0-4, or [0, 1, 2]")
        grid = {**grid, "seed": [*range(first, last + 1)]}
    if empty := [key for key, value in grid.items() if value == []]:
        raise OcheError(f"{at}.{empty[0]}: an empty list leaves no trial; write values, or leave the key out")
    return grid


def _with_absolute_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with absolute paths, so that the study's own file can be read from any directory."""
    paths = {"data": locate, "table": _path, "data_dir": _path, "parts": _path, "plugins": _path}
    return {k: _map(paths[k], v) if k in paths else v for k, v in settings.items()}


def _path(value: str) -> str:
    return str(absolute(value))


def _map(change: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_map(change, v) for v in value]
    return change(value) if isinstance(value, str) else value  # values that are no text are refused later
