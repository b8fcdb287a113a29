"""A trial: what it is, its name by content, and its whole work as a function of (configuration, directory)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from oche._version import __version__
from oche.api import resume, run_search, run_train
from oche.core import atomic_files as atomic
from oche.core.architecture import Genotype
from oche.core.config.yaml_files import from_dict, to_dict
from oche.core.console import Log
from oche.core.lock import wait
from oche.core.plugins import load_plugins
from oche.core.seeds import generator
from oche.core.signals import Interrupt
from oche.runs.claim import is_run
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.run import Run
from oche.spaces.nasbench201_ground_truth import truth
from oche.study.results import about
from oche.training.loop import Interrupted

RANDOM = "random"  #: the control: no search, a cell of the space drawn from the seed, trained the same way
_WHERE = ("device", "threads", "checkpoint", "data_dir", "plugins", "table")  # where and how, not what
_SEARCHED = ("search", "method")  # what a control has not


@dataclass(frozen=True)
class Trial:
    """One search (or, of the control, one random cell), and a training of what it found unless ``train`` is None."""

    labels: dict[str, str]
    """method, space, data, and the settings in which the trials of a study differ"""
    search: SearchConfig
    train: TrainConfig | None

    @property
    def seed(self) -> int:
        return self.search.seed

    @property
    def control(self) -> bool:
        return self.search.method == RANDOM

    @property
    def group(self) -> str:
        """What the trials of all seeds have in common."""
        first = ("method", "space", "data")
        more = [f"{name}={value}" for name, value in self.labels.items() if name not in first]
        return " · ".join([*(self.labels[name] for name in first), *more])

    @cached_property
    def id(self) -> str:
        """12 hexadecimal digits of a hash of the configuration in full, defaults too, and the version of oche.

        Left out is what does not change what is found: device, threads, time between checkpoints, where archives and a table
        lie. Of plugins the text counts, of the rest of oche the version number.
        """
        what = {
            "oche": __version__,
            "search": _what(self.search, _SEARCHED if self.control else ()),
            "train": self.train and _what(self.train, ()),
            "table": self.search.table and self.search.table.name,
            "plugins": [hashlib.sha256(p.read_bytes()).hexdigest() for p in self.search.plugins],
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]

    def write(self, path: Path) -> None:
        """Writes trial.json in the directory ``path``."""
        train = self.train and to_dict(self.train)
        about = {"id": self.id, "oche": __version__, "group": self.group, "labels": self.labels, "seed": self.seed}
        text = atomic.to_json({**about, "search": to_dict(self.search), "train": train}, indent=1)
        atomic.write_bytes(path / "trial.json", text.encode())

    @classmethod
    def read(cls, path: Path) -> Trial:
        """The trial of the directory ``path``. Raises `OcheError`."""
        tree, where = about(path), str(path / "trial.json")
        load_plugins(tuple(Path(p) for p in tree["search"]["plugins"]))
        train = tree["train"] and from_dict(TrainConfig(), tree["train"], where)
        return cls(tree["labels"], from_dict(SearchConfig(), tree["search"], where), train)


def _what(config: SearchConfig | TrainConfig, without: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in to_dict(config).items() if name not in (*_WHERE, *without)}


# --- its work ---------------------------------------------------------------------------------------------------------


def run(path: Path, log: Log) -> None:
    """Does what is left of the trial in the directory ``path``, once no other process is at work on it.

    Raises `oche.training.loop.Interrupted` when asked to stop; everything is saved then. Whatever happens, state.json says so.
    """
    lock = wait(path)
    try:
        if (path / "summary.json").exists():
            log.say(f"{path} is complete; nothing to do")
            return
        _say(path, "running")
        try:
            with Interrupt() as interrupt:
                summary = _work(path, Trial.read(path), log, interrupt)
        except Interrupted:
            _say(path, "interrupted")
            raise
        except BaseException as error:
            _say(path, "failed", error=f"{type(error).__name__}: {error}")
            raise
        atomic.write_bytes(path / "summary.json", atomic.to_json(summary, indent=1).encode())
        _say(path, "complete")
    finally:
        lock.release()


def mark(path: Path, state: str, why: str) -> None:
    """Notes of a trial that is not complete what its process could not say itself: that it "failed", or was "stopped"."""
    if not (path / "summary.json").exists():
        _say(path, state, error=why)


def _say(path: Path, state: str, **more: str) -> None:
    atomic.write_bytes(path / "state.json", atomic.to_json({"state": state, **more}).encode())


def _work(path: Path, trial: Trial, log: Log, interrupt: Interrupt) -> dict[str, Any]:
    genotype, found = (_drawn if trial.control else _searched)(path, trial, log)
    if trial.train is None:
        return {"genotype": str(genotype), **found}
    if interrupt.asked:
        raise Interrupted
    config = replace(trial.train, genotype=str(genotype))
    trained = _done(path / "train", lambda out: run_train(config, out=out, overwrite=False, log=log), log.quiet).summary
    return {"genotype": str(genotype), **found, **_named(trained, "train", _TIMES)}


_TIMES = ("seconds", "steps", "step_ms")
_BOTH = ("true_acc", "regret")  # known of a cell, however it was found


def _searched(path: Path, trial: Trial, log: Log) -> tuple[Genotype, dict[str, Any]]:
    run = _done(path / "search", lambda out: run_search(trial.search, out=out, overwrite=False, log=log), log.quiet)
    numbers = run.summary
    ours = [name for name in numbers if name not in _BOTH]
    return run.genotype, _named(numbers, "search", ours)


def _drawn(path: Path, trial: Trial, log: Log) -> tuple[Genotype, dict[str, Any]]:
    genotype = trial.search.space.random(generator(trial.seed, "random cell"))
    log.say(f"drawn: {genotype}")
    known = truth(trial.search.table, trial.search.data)
    return genotype, {} if known is None else known(genotype)


def _done(path: Path, begin: Callable[[Path], Run], quiet: bool) -> Run:
    """The finished run at ``path``, which is begun, gone on with, or there."""
    return resume(path, quiet=quiet) if is_run(path) else begin(path)


def _named(summary: dict[str, Any], part: str, names: Any) -> dict[str, Any]:
    """The numbers of ``summary``, with those of ``names`` said to be of ``part``."""
    numbers = {k: v for k, v in summary.items() if isinstance(v, int | float)}
    return {f"{part}_{name}" if name in names else name: value for name, value in numbers.items()}
