"""study.yaml: what a study is asked to be, read into trials.

For instance::

    out: runs/study        where; jobs, threads, gpus: how many at a time, see `Place`
    recipe: small          and other settings of all trials, as on the command line: search.epochs: 10, limit: 1000
    grid:                  lists, of which all combinations are trials; or a list of such grids
      method: [darts, beta-darts, random]
      seed: 0-4
    trials:                single ones, beside a grid or instead of it
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

from oche.core.config.serialize import to_dict
from oche.core.config.yaml_files import dump_plain, from_dict, read_yaml
from oche.core.errors import OcheError
from oche.core.plugins import load_plugins
from oche.data.text.files import is_text
from oche.runs.prepare import absolute, locate
from oche.study.grid import FIXED, KNOWN, flat, trial, varying
from oche.study.random_search import Tune
from oche.study.trial import Trial

_LISTS = ("grid", "trials", "tune")
_VARY = [name for name in KNOWN if name not in FIXED]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study runs, and how many of its trials at a time. Raises `OcheError` for what is none."""

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
    """What a file asks for: ``trials`` in order, each once; ``text``: the file anew, complete and with paths from the root."""

    place: Place
    trials: tuple[Trial, ...]
    tune: Tune | None
    text: str

    @property
    def measure(self) -> tuple[str, Literal["max", "min"]]:
        """What trials are judged by after each epoch, and which is better."""
        return ("val_ppl", "min") if is_text(self.trials[0].search.data) else ("val_acc", "max")

    @property
    def epochs(self) -> int:
        """Of the part of a trial that is judged."""
        first = self.trials[0]
        return first.search.search.epochs if first.train is None else first.train.train.epochs


def read(path: Path, **over: Any) -> Study:
    """The study of the file at ``path``, or of the directory of one. ``over``: values of `Place` that are not None count instead.

    Raises `OcheError`, one line: file, key, what was found, what to write.
    """
    path = path / "study.yaml" if path.is_dir() else path
    tree, where = read_yaml(path), str(path)
    own = [f.name for f in fields(Place)]
    placed = {k: tree[k] for k in own if k in tree} | {k: v for k, v in over.items() if v is not None}
    place = from_dict(Place(), placed, where)
    rest = {k: v for k, v in tree.items() if k not in (*own, *_LISTS)}
    common = _rooted(flat(rest, where, [*KNOWN, *own, *_LISTS]))
    load_plugins(tuple(map(Path, common.get("plugins", ()))))
    grids = [_rooted(_seeds(flat(g, at, _VARY), at)) for g, at in _sections(tree, "grid", where)]
    listed = [_rooted(flat(t, at, _VARY)) for t, at in _sections(tree, "trials", where)]
    if not grids and not listed:
        raise OcheError(f"{where}: there is nothing to run; write grid: {{method: [darts, random], seed: [0, 1, 2]}}")
    tune = Tune.of(tree["tune"], where) if tree.get("tune") is not None else None
    drawn = [flat(point, f"{where}: tune.over", _VARY) for point in tune.points()] if tune else [{}]
    points = [
        {**common, "threads": place.threads, **point, **more}
        for point in itertools.chain(*map(_combinations, grids), listed)
        for more in drawn
    ]
    made = {t.id: t for t in map(lambda p, labels: trial(p, labels, where), points, varying(points))}
    if tune:
        _check_judged(made.values(), where)
    lists = {"grid": grids, "trials": listed, "tune": tune and tune.tree}
    text = dump_plain({**to_dict(place), **common, **{k: v for k, v in lists.items() if v}})
    # Seed by seed, so that an early end leaves a fair study.
    return Study(place, tuple(sorted(made.values(), key=lambda t: t.seed)), tune, text)


def _check_judged(trials: Iterable[Trial], where: str) -> None:
    """Raises `OcheError` where a trial of a study that tunes would have no validation numbers to be judged by."""
    for t in trials:
        if t.control and t.train is None:
            raise OcheError(f"{where}: tune: {t.group} trains nothing that could be judged; write recipe: small, say")
        if t.train is not None and getattr(t.train.train, "split", 0) == 1:
            raise OcheError(
                f"{where}: tune judges by validation accuracies, and train.split: 1 keeps no images for that; "
                "write train.split: 0.8, say, or recipe: none to judge by the search's own"
            )


def _sections(tree: dict[str, Any], name: str, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The mappings below ``name``, of which one may stand by itself, each with its place."""
    found = tree.get(name)
    several = found if isinstance(found, list) else [] if found is None else [found]
    for i, section in enumerate(several):
        at = f"{where}: {name}.{i}" if isinstance(found, list) else f"{where}: {name}"
        if not isinstance(section, dict) or not section:
            raise OcheError(f"{at}: expected keys and values, found {section!r}; write {{method: darts, seed: 0}}, say")
        yield section, at


def _combinations(grid: dict[str, Any]) -> Iterator[dict[str, Any]]:
    lists = [value if isinstance(value, list) else [value] for value in grid.values()]
    for values in itertools.product(*lists):
        yield dict(zip(grid, values, strict=True))


def _seeds(grid: dict[str, Any], at: str) -> dict[str, Any]:
    """``grid`` with "0-4" as the seeds 0 to 4; empty lists, which would leave no trial, are refused."""
    if isinstance(span := grid.get("seed"), str):
        found = re.fullmatch(r"(\d+)-(\d+)", span.replace(" ", ""))
        first, last = map(int, found.groups()) if found else (1, 0)
        if last < first:
            raise OcheError(f"{at}.seed: expected seeds, found {span!r}; write 0-4, or [0, 1, 2]")
        grid = {**grid, "seed": [*range(first, last + 1)]}
    if empty := [key for key, value in grid.items() if value == []]:
        raise OcheError(f"{at}.{empty[0]}: an empty list leaves no trial; write values, or leave the key out")
    return grid


def _rooted(settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` with paths from the root, so that the study's own file can be read from any other directory."""
    paths = {"data": locate, "table": _path, "data_dir": _path, "plugins": _path}
    return {k: _each(paths[k], v) if k in paths else v for k, v in settings.items()}


def _path(value: str) -> str:
    return str(absolute(value))


def _each(change: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_each(change, v) for v in value]
    return change(value) if isinstance(value, str) else value  # what is no text is refused where it is read
