"""A trial: its configuration, its id, and its work as a function of (configuration, directory)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from oche._version import __version__
from oche.api import resume, run_search, run_train
from oche.core.architecture import Genotype
from oche.core.atomic_files import read_json, to_json, write_bytes
from oche.core.config.moved import as_before, as_recorded
from oche.core.config.serialize import from_dict, to_dict
from oche.core.console import Log
from oche.core.lock import wait_for_lock
from oche.core.plugins import load_plugins
from oche.core.seeds import generator
from oche.core.signals import Interrupt
from oche.runs.claim import is_run
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.membership import MANIFEST, TEXT
from oche.runs.run import Run
from oche.spaces.nasbench201_ground_truth import load_ground_truth
from oche.strategies.config import StrategyConfig
from oche.strategies.run import run_strategy
from oche.study.results import read_trial_file
from oche.training.loop import Interrupted

RANDOM = "random"  #: the control: no search; a random cell of the space, trained the same way
_WHERE = (
    "device",
    "threads",
    "checkpoint",
    "data_dir",
    "plugins",
    "table",
)  # where and how it runs; these change no result
_SEARCHED = ("search", "method")  # a control has none of these


@dataclass(frozen=True)
class Trial:
    """One search, in a supernet or by a strategy (for the control, one random cell), and a training of its cell unless ``train``
    is None.
    """

    labels: dict[str, str]
    """method, space, data, and the settings in which the trials of a study differ"""
    search: SearchConfig
    train: TrainConfig | None
    strategy: StrategyConfig | None = None
    """the black-box search that finds the cell, instead of one in a supernet"""

    @property
    def seed(self) -> int:
        return self.search.seed

    @property
    def control(self) -> bool:
        return self.search.method == RANDOM

    @property
    def group(self) -> str:
        """A name shared by the trials of all seeds."""
        first = ("method", "space", "data")
        more = [f"{name}={value}" for name, value in self.labels.items() if name not in first]
        return " · ".join([*(self.labels[name] for name in first), *more])

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits of a hash of the full configuration, with defaults, and the version of oche.

        Settings that change no result are left out: device, threads, time between checkpoints, folders of archives and
        tables. So are fields added since version 0.1 that have their default. The text of plugins counts.
        """
        hashed = {
            "oche": __version__,
            "search": _relevant(self.search, _SEARCHED if self.control or self.strategy else ()),
            "train": self.train and _relevant(self.train, ()),
            "table": self.search.table and self.search.table.name,
            "plugins": [hashlib.sha256(p.read_bytes()).hexdigest() for p in self.search.plugins],
        }
        if self.strategy is not None:
            hashed["strategy"] = {k: v for k, v in self.strategy.record().items() if k not in (*_WHERE, "jobs")}
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]

    def write(self, path: Path, name: str = "") -> None:
        """Write trial.json to the directory ``path``. ``name``: the trial's name in its study, see `short_names`."""
        train = self.train and to_dict(self.train)
        head = {
            "id": self.id, "oche": __version__, "group": self.group, "name": name or self.group, "labels": self.labels,
            "seed": self.seed,
        }  # fmt: skip
        strategy = {} if self.strategy is None else {"strategy": self.strategy.record()}
        text = to_json({**head, "search": to_dict(self.search), "train": train, **strategy}, indent=1)
        write_bytes(path / "trial.json", text.encode())

    @classmethod
    def read(cls, path: Path) -> Trial:
        """The trial in the directory ``path``. Raises `OcheError`."""
        tree, where = read_trial_file(path), str(path / "trial.json")
        load_plugins(tuple(Path(p) for p in tree["search"]["plugins"]))
        train = tree["train"] and from_dict(TrainConfig(), tree["train"], where)
        found = tree.get("strategy")
        strategy = found and from_dict(StrategyConfig(), found, where)
        return cls(tree["labels"], from_dict(SearchConfig(), tree["search"], where), train, strategy)


def short_names(labels: Sequence[Mapping[str, str]], common: Collection[str] = ()) -> list[str]:
    """Return a name for each of the ``labels``: the method, and the other labels in which any two of them differ.

    ``common``: labels to leave out in any case. A space or a data set that is called as a method is named with what it is.
    """
    methods = {of["method"] for of in labels}
    keys = dict.fromkeys(key for of in labels for key in of)
    varied = [k for k in keys if k not in (*common, "method") and len({of.get(k, "default") for of in labels}) > 1]

    def text(key: str, value: str) -> str:
        if key in ("space", "data"):
            return f"{key} {value}" if value in methods else value
        return f"{key}={value}"

    def shown(of: Mapping[str, str], key: str) -> bool:
        without_effect = of["method"] == RANDOM and key.partition(".")[0] == "search"
        return of.get(key, "default") != "default" and not without_effect

    return [" · ".join([of["method"], *(text(k, of[k]) for k in varied if shown(of, k))]) for of in labels]


def _relevant(config: SearchConfig | TrainConfig, without: tuple[str, ...]) -> dict[str, Any]:
    tree = as_recorded(config, to_dict(config))
    if isinstance(config, SearchConfig):  # named as version 0.1 named them, so that studies of then go on
        tree["search"] = as_before(type(config.search), tree["search"])
    return {name: value for name, value in tree.items() if name not in (*_WHERE, *without)}


# --- its work ---------------------------------------------------------------------------------------------------------


def run_trial(path: Path, log: Log) -> None:
    """Finish the trial in the directory ``path``; wait first while another process works on it.

    Raises `oche.training.loop.Interrupted` when asked to stop, after saving everything. It always notes the state of the trial
    in state.json.
    """
    lock = wait_for_lock(path)
    try:
        if (path / "summary.json").exists():
            log.say(f"{path} is complete; nothing to do")
            return
        _write_state(path, "running")
        try:
            with Interrupt() as interrupt:
                summary = _work(path, Trial.read(path), log, interrupt)
        except Interrupted:
            _write_state(path, "interrupted")
            raise
        except BaseException as error:
            _write_state(path, "failed", error=f"{type(error).__name__}: {error}")
            raise
        write_bytes(path / "summary.json", to_json(summary, indent=1).encode())
        _write_state(path, "complete")
    finally:
        lock.release()


def mark_trial(path: Path, state: str, why: str) -> None:
    """Note for an unfinished trial that it "failed" or was "stopped", if its process could not do so itself."""
    if not (path / "summary.json").exists():
        _write_state(path, state, error=why)


def _write_state(path: Path, state: str, **more: str) -> None:
    write_bytes(path / "state.json", to_json({"state": state, **more}).encode())


def _work(path: Path, trial: Trial, log: Log, interrupt: Interrupt) -> dict[str, Any]:
    genotype, found = (_drawn if trial.control else _asked if trial.strategy else _searched)(path, trial, log)
    if trial.train is None:
        return {"genotype": str(genotype), **found}
    if interrupt.asked:
        raise Interrupted
    alone = trial.control or trial.strategy is not None  # no search has recorded the parts of the data
    parts = trial.train.parts or (_first_record(path, trial) if alone else path / "search")
    config = replace(trial.train, genotype=str(genotype), parts=parts)
    trained = _finished_run(
        path / "train", lambda out: run_train(config, out=out, overwrite=False, log=log), log.quiet
    ).summary
    return {"genotype": str(genotype), **found, **_prefixed(trained, "train", _TIMES)}


_TIMES = ("seconds", "other_seconds", "steps", "step_ms")
_OF_CELL = ("true_acc", "regret")  # results of a cell, however it was found


def _searched(path: Path, trial: Trial, log: Log) -> tuple[Genotype, dict[str, Any]]:
    config = replace(trial.search, parts=trial.search.parts or _first_record(path, trial))
    run = _finished_run(path / "search", lambda out: run_search(config, out=out, overwrite=False, log=log), log.quiet)
    numbers = run.summary
    ours = [name for name in numbers if name not in _OF_CELL]
    return run.genotype, _prefixed(numbers, "search", ours)


def _asked(path: Path, trial: Trial, log: Log) -> tuple[Genotype, dict[str, Any]]:
    """Return the cell that a strategy finds, and its numbers. The journal is in ``path``/strategy."""
    assert trial.strategy is not None
    run = run_strategy(trial.strategy, path / "strategy", log)
    if run.found.ended == "interrupted":
        raise Interrupted
    genotype, summary = run.genotype, run.summary
    numbers = {name: summary[name] for name in (*_OF_CELL, "queries", "failures") if name in summary}
    if summary["evaluator"] == "table" or summary.get("by") == "val_acc":
        numbers["search_val_acc"] = summary["score"]
    if summary["unit"] == "seconds":
        numbers["search_seconds"] = summary["cost"]
    return genotype, numbers


def _first_record(path: Path, trial: Trial) -> Path | None:
    """Return the run that was the first in the study to record the parts of the trial's data; None if there is none yet.

    All trials on the same data are tested on the same images, even if images are added or removed while the study runs.
    """
    mine, found = to_dict(trial.search), []
    for file in (*path.parent.glob(f"*/*/{MANIFEST}"), *path.parent.glob(f"*/*/{TEXT}")):
        its = read_json(file.parent.parent / "trial.json").get("search", {})
        if file.parent.parent != path and all(its.get(key) == mine[key] for key in ("data", "holdout", "tokens")):
            found.append((file.stat().st_mtime_ns, file.parent))
    return min(found)[1] if found else None


def _drawn(path: Path, trial: Trial, log: Log) -> tuple[Genotype, dict[str, Any]]:
    genotype = trial.search.space.random(generator(trial.seed, "random cell"))
    log.say(f"drawn: {genotype}")
    known = load_ground_truth(trial.search.table, trial.search.data)
    return genotype, {} if known is None else known(genotype)


def _finished_run(path: Path, begin: Callable[[Path], Run], quiet: bool) -> Run:
    """Return the run at ``path``, finished: start it, continue it, or take it as it is."""
    return resume(path, quiet=quiet) if is_run(path) else begin(path)


def _prefixed(summary: dict[str, Any], part: str, names: Any) -> dict[str, Any]:
    """The numbers of ``summary``; those in ``names`` get the prefix ``part``."""
    numbers = {k: v for k, v in summary.items() if isinstance(v, int | float)}
    return {f"{part}_{name}" if name in names else name: value for name, value in numbers.items()}
