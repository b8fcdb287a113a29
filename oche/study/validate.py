"""All that can be refused of a study's trials, before any of them runs: each distinct part once, each data set loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from oche.core.atomic_files import to_json
from oche.core.config.yaml_files import to_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.runs.execute import load_data
from oche.runs.prepare import check_search, check_train
from oche.study.trial import Trial

DATA = (
    "data",
    "data_dir",
    "limit",
    "size",
    "damaged",
    "holdout",
    "tokens",
)  # what decides which images or tokens there are
_FREE = ("seed",)  # seeds change numbers, not what is possible


def check(trials: Sequence[Trial], where: str, log: Log) -> None:
    """Raises `OcheError` for the first trial that could not be run as asked; ``where`` names its file. Data are downloaded."""
    seen: set[str] = set()
    held: tuple[Any, Any] = (None, None)  # one data set at a time
    for trial in sorted(trials, key=lambda t: str(_key(t, DATA))):
        if (key := _key(trial)) in seen:
            continue
        seen.add(key)
        try:
            if held[0] != (name := _key(trial, DATA)):
                held = name, load_data(trial.search, log)
            _check(trial, held[1], Log(quiet=True))
        except OcheError as error:
            raise OcheError(f"{where}: {trial.group}: {error}") from None


def _key(trial: Trial, names: Sequence[str] | None = None) -> str:
    search, train = to_dict(trial.search), trial.train and to_dict(trial.train)
    if names is not None:
        return to_json({name: search[name] for name in names})
    return to_json([{k: v for k, v in tree.items() if k not in _FREE} for tree in (search, train) if tree])


def _check(trial: Trial, data: Any, log: Log) -> None:
    config, _ = check_search(trial.search, log, data)
    if trial.control and trial.train is None and config.table is None:
        raise OcheError("a random cell says nothing without training; write recipe: small, say, or a table: FILE")
    if trial.train is not None:
        # Any cell will do: what is checked is the same for all.
        cell = config.space.random(generator(trial.seed, "random cell"))
        check_train(replace(trial.train, genotype=str(cell)), log, data)
