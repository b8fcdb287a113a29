"""From a configuration to a checked plan. All checks are here, and no directory is made.

A plan holds the complete configuration, the data, and the table of true accuracies. It is made once, in the process that
executes it (`oche.runs.execute`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from oche.bilevel.batches import check_data
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.plugins import load_plugins
from oche.data import Corpus
from oche.data.text.files import is_text
from oche.devices.engine import Engine
from oche.devices.launch import read_environment
from oche.devices.process_group import ProcessGroup
from oche.kernels.choose import choose
from oche.kernels.cpu import build as native
from oche.runs.config import Common, SearchConfig, TrainConfig
from oche.runs.membership import Earlier, check_parts
from oche.runs.resolve import read_trainable, with_absolute_paths
from oche.runs.run_data import load_adopted, load_data, load_recorded
from oche.runs.warm_start import read_warm_start
from oche.spaces.nasbench201_ground_truth import GroundTruth, load_ground_truth, table_for
from oche.training.gradient_check import check_search_in_bf16
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import is_language
from oche.training.recipes import space_at_recipe_size
from oche.training.warm_start import WarmStart


@dataclass(frozen=True)
class SearchPlan:
    """A search that can start: its complete configuration, with the space fitted to the data."""

    config: SearchConfig
    data: Any
    """a `Dataset`, or a `Corpus` for text"""
    truth: GroundTruth | None
    """true accuracies of cells, if there is a table of them"""


@dataclass(frozen=True)
class TrainPlan:
    """A training that can start: its complete configuration, with the genotype as text."""

    config: TrainConfig
    data: Any
    """a `Dataset`, or a `Corpus` for text"""
    warm: WarmStart | None = None
    """weights to begin with, from another network"""


Plan = SearchPlan | TrainPlan

__all__ = [
    "Plan",
    "SearchPlan",
    "TrainPlan",
    "load_data",
    "make_engine",
    "plan_resumed",
    "plan_search",
    "plan_training",
]


def plan_search(config: SearchConfig, log: Log, data: Any = None, earlier: Earlier | None = None) -> SearchPlan:
    """Return the plan of a search. ``data``: the data that ``config`` names, if they are loaded already.

    ``earlier``: what the run ``config.parts`` recorded, if it is read already.

    Raises `OcheError` if the search cannot start.
    """
    load_plugins(config.plugins)
    config = with_absolute_paths(config)
    recipe = config.search
    _check_device(config, log, twice=recipe.method.hypergrad.twice)
    recipe.check(config.space)
    config = replace(config, table=table_for(config.table, config.data, config.space))
    truth = load_ground_truth(config.table, config.data)
    if truth is not None:
        log.say(f"true accuracies: {truth.column} of {config.table}")
    data = data or _load_new(config, log, earlier)
    check_data(data, config.space, recipe)
    check_shares(config, data, read_environment())
    config = replace(config, space=config.space.fit(data))
    if recipe.method.cost_penalty is not None:
        recipe.check_target(space_at_recipe_size(config.space, recipe.cost_recipe or config.space.recipe))
    check_search_in_bf16(config.space, recipe, _engine(config))
    return SearchPlan(config, data, truth)


def plan_training(config: TrainConfig, log: Log, data: Any = None, earlier: Earlier | None = None) -> TrainPlan:
    """Return the plan of a training. ``data``: the data that ``config`` names, if they are loaded already.

    ``earlier``: what the run ``config.parts`` recorded, if it is read already.

    Raises `OcheError` if the training cannot start.
    """
    load_plugins(config.plugins)
    config = with_absolute_paths(config)
    config = replace(config, genotype=str(read_trainable(config.genotype)))
    check_domains(config)
    _check_device(config, log, mixed=False)
    data = data or _load_new(config, log, earlier)
    config.train.check(config.genotype, data, _engine(config))
    check_shares(config, data, read_environment())
    return TrainPlan(config, data, read_warm_start(config, data, log))


def plan_resumed(config: SearchConfig | TrainConfig, log: Log, earlier: Earlier) -> Plan:
    """Return the plan of a run to resume. ``config`` is the complete configuration in its directory, ``earlier`` its record."""
    data = load_recorded(config, log, earlier, "resume")
    if isinstance(config, TrainConfig):
        return TrainPlan(config, data)
    return SearchPlan(config, data, load_ground_truth(config.table, config.data))


def _load_new(config: SearchConfig | TrainConfig, log: Log, earlier: Earlier | None) -> Any:
    """Return the data of a new run: divided anew, or as the run ``config.parts`` was."""
    if config.parts is None:
        return load_data(config, log)
    if earlier is None:
        check_parts(config.parts)
        earlier = Earlier.read(config.parts, log)
    return load_adopted(config, log, earlier)


def _engine(config: Common) -> Engine:
    """Return the device that checks run on."""
    return Engine(config.device, fused=config.engine, processes=read_environment())


def make_engine(config: Common, processes: ProcessGroup) -> Engine:
    """Return the device and the processes that a run computes on."""
    return Engine(config.device, config.threads, fused=config.engine, processes=processes, sync=config.sync_bn)


def check_shares(config: SearchConfig | TrainConfig, data: Any, processes: ProcessGroup) -> None:
    """Raise `OcheError` if several processes cannot divide the batches of a run evenly."""
    if not processes.is_distributed:
        return
    if isinstance(data, Corpus):
        raise OcheError("language models cannot be trained by several ranks; start oche without torchrun")
    images = len(data.train)
    if isinstance(config, TrainConfig):
        assert isinstance(config.train, Recipe)
        recipe = config.train
        processes.check_batch("train.batch", recipe.batch, round(recipe.split * images), recipe.accumulate)
        return
    recipe = config.search
    if not recipe.method.hypergrad.one_level:
        images = min(first := round(recipe.split * images), images - first)
    processes.check_batch("search.batch", recipe.batch, images)
    if recipe.method.batch_growth:
        processes.check_batch("search.method.batch_growth", recipe.method.batch_growth, images)


def _check_device(config: Common, log: Log, *, twice: bool = False, mixed: bool = True) -> None:
    """Raise `OcheError` if the device of ``config`` is missing, or cannot compute cells in the requested form."""
    engine = Engine(config.device, processes=read_environment())
    _ = engine.device
    if is_text(config.data):  # the fast path of language models has no requirements
        return
    if config.engine != "plain" and engine.device.type == "cpu" and native.pending():
        log.say(
            "compiling fast kernels, once for this machine: about 20 s, which no budget counts (--engine plain needs none)"
        )
    if config.engine == "fused":
        choose(config.engine, engine.device, engine.dtype, twice=twice, mixed=mixed)


def check_domains(config: TrainConfig) -> None:
    """Raise `OcheError` unless genotype, recipe and data are all for images, or all for text. Reads no data."""
    cell = "text" if is_language(config.genotype) else "images"
    made = {
        "text": "recurrent cells (and lstm) make language models",
        "images": "this genotype makes networks for images",
    }[cell]
    if config.train.domain != cell:
        use = {"text": "recurrent or recurrent-small", "images": "darts, say"}[cell]
        raise OcheError(f"{made}, and the recipe {config.recipe!r} is for {config.train.domain}; write --recipe {use}")
    if is_text(config.data) != (cell == "text"):
        use = {"text": "--data ptb or a text file", "images": "--data cifar10, say"}[cell]
        found = "images" if cell == "text" else "text"
        raise OcheError(f"{made}, and {config.data} is {found}; write {use}")
