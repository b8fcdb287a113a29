"""Check the trials of a study before any of them runs: each distinct configuration once, each data set loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from oche.core.atomic_files import to_json
from oche.core.config.serialize import to_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.runs.plan import load_data, plan_search, plan_training
from oche.strategies.config import make_evaluator
from oche.study.trial import Trial

DATA = (
    "data",
    "data_dir",
    "limit",
    "size",
    "damaged",
    "holdout",
    "tokens",
)  # settings that decide which images or tokens there are
_FREE = ("seed",)  # a seed changes results, not whether a trial can run


def check_trials(trials: Sequence[Trial], where: str, log: Log) -> None:
    """Raise `OcheError` for the first trial that could not run as asked; ``where`` names its file. Downloads the data."""
    seen: set[str] = set()
    held: tuple[Any, Any] = (None, None)  # one data set at a time
    for trial in sorted(trials, key=lambda t: str(_key(t, DATA))):
        if (key := _key(trial)) in seen:
            continue
        seen.add(key)
        try:
            if trial.strategy is not None and trial.strategy.evaluate == "table" and trial.train is None:
                make_evaluator(trial.strategy)  # it needs no images
                continue
            if held[0] != (name := _key(trial, DATA)):
                held = name, load_data(trial.search, log)
            _check(trial, held[1], Log(quiet=True))
        except OcheError as error:
            raise OcheError(f"{where}: {trial.group}: {error}") from None


def _key(trial: Trial, names: Sequence[str] | None = None) -> str:
    search, train = to_dict(trial.search), trial.train and to_dict(trial.train)
    strategy = trial.strategy and trial.strategy.record()
    if names is not None:
        return to_json({name: search[name] for name in names})
    return to_json([{k: v for k, v in tree.items() if k not in _FREE} for tree in (search, train, strategy) if tree])


def _check(trial: Trial, data: Any, log: Log) -> None:
    config = plan_search(trial.search, log, data).config
    if trial.control and trial.train is None and config.table is None:
        raise OcheError(
            "a random cell has no result without a training or a table; write recipe: small, or table: FILE"
        )
    if trial.train is not None:
        # Any cell will do, since the checks are the same for all.
        cell = config.space.random(generator(trial.seed, "random cell"))
        plan_training(replace(trial.train, genotype=str(cell)), log, data)
