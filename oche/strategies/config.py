"""The settings of a black-box search, and the evaluator that they ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from oche.blackbox.base import Evaluator, Strategy
from oche.blackbox.evolution import AgeingEvolution
from oche.core.arguments import checked
from oche.core.budget import parse_duration
from oche.core.config.serialize import to_dict
from oche.core.errors import OcheError, did_you_mean
from oche.data import load
from oche.data.text.files import is_text
from oche.devices.engine import Engine
from oche.spaces.base import Space
from oche.spaces.nasbench201 import NB201Space
from oche.spaces.nasbench201_ground_truth import TABLE_VARIABLE, column_for
from oche.strategies.evaluators import TableAccuracy, Training, TrainingFree, check_space_has_table
from oche.strategies.training_free import find_score
from oche.training.image_recipes import Recipe, small

EVALUATORS = ("table", "train", "shared", "score:NAME")
DEFAULT_QUERIES = 100


@checked
@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """The settings of one black-box search. Raises `OcheError` for contradictions."""

    strategy: str = "evolution"
    """name of the strategy that `search` started from (see `oche list strategies`)"""
    evaluate: str = "table"
    """how an architecture is scored: table (NAS-Bench-201), train (a training from scratch), shared (the weights of a supernet),
    or score:NAME (a training-free score, see docs/strategies.md)"""
    queries: int | None = None
    """architectures that the strategy asks for; repeated ones count; default: 100, unless there is a budget"""
    budget: str | None = None
    """length in time of evaluations instead of queries: 10m, 1h30m; for train and score"""
    search: Strategy = field(default_factory=AgeingEvolution)
    """settings of the strategy"""
    space: Space = field(default_factory=NB201Space)
    """the architectures to choose from; sizes the networks of score"""
    data: str = "cifar10"
    """data set of the table's column, or the images to train or score on (see oche list data)"""
    table: Path | None = None
    """Parquet file with NAS-Bench-201's accuracies; by default that of the environment variable OCHE_NB201"""
    column: str | None = None
    """column of the table that the search compares; by default that of validation accuracies after 12 epochs"""
    oracle: bool = False
    """allow a column of test accuracies, for experiments that are not a search"""
    recipe: str = "small"
    """name of the recipe that `train` started from (see oche list recipes)"""
    train: Recipe = field(default_factory=lambda: small(split=0.5))
    """size and training of the networks that are trained"""
    by: str = "val_acc"
    """score of a training: val_acc, or losses (minus the sum of its training losses)"""
    batch: int = 32
    """images that a training-free score looks at"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand"""
    limit: int | None = None
    """use only this many training images"""
    size: int | None = None
    """side in pixels to which images of a folder are resized"""
    seed: int = 0
    """seed of the strategy, and of the weights of every network"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    threads: int = 0
    """CPU threads of each evaluation; 0: torch's default"""
    jobs: int = 1
    """evaluations at a time, each in a process of its own; results then depend on the order in which they end"""

    def __post_init__(self) -> None:
        name = self.evaluate
        if name.startswith("score:"):
            find_score(name.removeprefix("score:"))
        elif name not in EVALUATORS[:3]:
            raise OcheError(
                f"evaluate={name!r} is unknown{did_you_mean(name, [*EVALUATORS])}; use {', '.join(EVALUATORS)}"
            )
        if self.queries is not None and self.budget is not None:
            raise OcheError(
                f"queries={self.queries} and budget={self.budget!r} contradict each other; give one of them"
            )
        if self.queries is not None and self.queries < 1:
            raise OcheError(f"queries={self.queries} evaluate nothing; use queries >= 1")
        if self.budget is not None and name in ("table", "shared"):
            raise OcheError(
                f"a query of {name} has no time of its own, so budget={self.budget!r} says nothing; give queries"
            )
        if self.by not in ("val_acc", "losses"):
            raise OcheError(f"by={self.by!r} is no score of a training; use val_acc or losses")
        if self.jobs < 1:
            raise OcheError(f"jobs={self.jobs} is too few; use 1 or more")

    @property
    def length(self) -> int | None:
        """The number of queries; None where a budget of time is the length."""
        return self.queries if self.queries is not None or self.budget is not None else DEFAULT_QUERIES

    @property
    def seconds(self) -> float | None:
        """The budget in seconds. Raises `OcheError` if it is no length of time."""
        return None if self.budget is None else parse_duration(self.budget)

    def record(self) -> dict[str, Any]:
        """Return the settings as a plain tree that `from_dict` reads, for the journal."""
        return {f.name: to_dict(getattr(self, f.name)) for f in fields(self)}

    def in_full(self) -> StrategyConfig:
        """Return these settings with the absolute path of the table that is used. Raises `OcheError` if there is none."""
        if self.evaluate != "table":
            return self
        check_space_has_table(self.space)
        path = self.table or os.environ.get(TABLE_VARIABLE)
        if not path:
            raise OcheError(
                f"evaluating by table needs NAS-Bench-201's accuracies; give their Parquet file as --table FILE or in "
                f"{TABLE_VARIABLE}, or --evaluate train"
            )
        known = column_for(self.data)
        if self.column is None and known is None:
            raise OcheError(
                f"the table has no column for data {self.data!r}; use --data cifar10, cifar100 or imagenet16"
            )
        column = self.column or f"{known.split('_')[0]}_valid_12ep"  # pyright: ignore[reportOptionalMemberAccess]
        return replace(self, table=Path(os.path.abspath(os.path.expanduser(path))), column=column)


def make_evaluator(config: StrategyConfig, stopping: Callable[[], bool] | None = None) -> tuple[Evaluator, Space]:
    """Return the evaluator of ``config`` (made `in_full`), and the space, fitted to the data. Reads table or data.

    Raises `OcheError` if the evaluator cannot serve the space.
    """
    if config.evaluate == "table":
        assert config.table is not None and config.column is not None
        return TableAccuracy(config.table, config.column, config.oracle), config.space
    if config.evaluate == "shared":
        raise OcheError(
            "shared weights are those of a supernet that a search trains; from Python write oche.search(data, "
            "method=oche.strategies.on_shared_weights(strategy, queries))"
        )
    if config.space.domain != "images" or is_text(config.data):
        raise OcheError("strategies evaluate networks for images; use --space nb201 or darts, and data with images")
    data = load(
        config.data, data_dir=config.data_dir, limit=config.limit, size=config.size, seed=config.seed, progress=False
    )
    space, engine = config.space.fit(data), Engine(config.device, config.threads)
    if config.evaluate == "train":
        by = "losses" if config.by == "losses" else "val_acc"
        return Training(data, config.train, engine, by, stopping), space
    return TrainingFree(config.evaluate.removeprefix("score:"), data, space, engine, config.batch), space
