"""From a configuration to a checked plan. All checks are here, and no directory is made.

A plan holds the complete configuration, the data, and the table of true accuracies. It is made once, in the process that
executes it (`oche.runs.execute`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from oche.bilevel.batches import check_data
from oche.core.atomic_files import read_json
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.core.plugins import load_plugins
from oche.data import Corpus, load
from oche.data.text.corpus import load_text
from oche.data.text.files import is_text
from oche.devices.engine import Engine
from oche.devices.launch import read_environment
from oche.devices.process_group import ProcessGroup
from oche.kernels.choose import choose
from oche.kernels.cpu import build as native
from oche.runs.checkpoint import load_weights, weights_metadata
from oche.runs.config import Common, SearchConfig, TrainConfig
from oche.runs.resolve import read_trainable, with_absolute_paths
from oche.runs.run import Run
from oche.spaces.nasbench201_ground_truth import GroundTruth, load_ground_truth, table_for
from oche.training.gradient_check import check_search_in_bf16
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import is_language
from oche.training.recipes import space_at_recipe_size
from oche.training.warm_start import WarmStart, plan_warm_start

METADATA_KEY = "oche.model"  # of the description of a network in the metadata of its exported weights


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


def plan_search(config: SearchConfig, log: Log, data: Any = None) -> SearchPlan:
    """Return the plan of a search. ``data``: the data that ``config`` names, if they are loaded already.

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
    data = data or load_data(config, log)
    check_data(data, config.space, recipe)
    check_shares(config, data, read_environment())
    config = replace(config, space=config.space.fit(data))
    if recipe.method.cost_penalty is not None:
        recipe.check_target(space_at_recipe_size(config.space, recipe.cost_recipe or config.space.recipe))
    check_search_in_bf16(config.space, recipe, _engine(config))
    return SearchPlan(config, data, truth)


def plan_training(config: TrainConfig, log: Log, data: Any = None) -> TrainPlan:
    """Return the plan of a training. ``data``: the data that ``config`` names, if they are loaded already.

    Raises `OcheError` if the training cannot start.
    """
    load_plugins(config.plugins)
    config = with_absolute_paths(config)
    config = replace(config, genotype=str(read_trainable(config.genotype)))
    check_domains(config)
    _check_device(config, log, mixed=False)
    data = data or load_data(config, log)
    config.train.check(config.genotype, data, _engine(config))
    check_shares(config, data, read_environment())
    return TrainPlan(config, data, read_warm_start(config, data, log))


def read_warm_start(config: TrainConfig, data: Any, log: Log) -> WarmStart | None:
    """Return the weights that a training begins with, from ``config.init``; None if it begins anew.

    Raises `OcheError` if the file or run has no weights that fit.
    """
    if config.init is None:
        return None
    if not isinstance(config.train, Recipe):
        raise OcheError(f"--init {config.init} is for networks for images, and this is a language model; leave it out")
    file = Run.open(config.init).trained().path / "weights.safetensors" if config.init.is_dir() else config.init
    given = load_weights(file)
    with torch.device("meta"):
        net = config.train.network(resolve(config.genotype), data)
    warm = plan_warm_start(net, given, str(config.init), classes_of(file) == data.classes)
    log.say(warm.describe(net))
    return warm


def classes_of(file: Path) -> tuple[str, ...] | None:
    """Return the classes of the network whose weights are in ``file``, from its run or its own description; None if unknown."""
    facts = read_json(file.parent / "space.json")
    if file.name == "weights.safetensors" and facts.get("classes"):
        return tuple(facts["classes"])
    text = weights_metadata(file).get(METADATA_KEY)
    return tuple(json.loads(text)["classes"]) if text else None


def describe_weights(where: Path) -> tuple[str, int, int] | None:
    """Return (genotype, channels, cells) of the network of a training or of an exported file of weights; None if unknown."""
    if where.is_dir():
        run = Run.open(where).trained()
        return str(run.genotype), run.config.train.channels, run.config.train.cells
    if (text := weights_metadata(where).get(METADATA_KEY)) is None:
        return None
    about = json.loads(text)
    return about["genotype"], about["recipe"]["channels"], about["recipe"]["cells"]


def plan_resumed(config: SearchConfig | TrainConfig, log: Log) -> Plan:
    """Return the plan of a run to resume. ``config`` is the complete configuration in its directory."""
    data = load_data(config, log)
    if isinstance(config, TrainConfig):
        return TrainPlan(config, data)
    return SearchPlan(config, data, load_ground_truth(config.table, config.data))


def load_data(config: Common, log: Log) -> Any:
    """Return the data that ``config`` names: a `Dataset`, or a `Corpus` for text."""
    if is_text(config.data):
        return load_text(
            config.data, tokens=config.tokens, data_dir=config.data_dir, holdout=config.holdout, limit=config.limit,
            progress=not log.quiet,
        )  # fmt: skip
    return load(
        config.data, data_dir=config.data_dir, holdout=config.holdout, limit=config.limit, size=config.size,
        damaged=config.damaged, seed=config.seed, progress=not log.quiet,
    )  # fmt: skip


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
        log.say("compiling fast kernels, once for this machine (about 20 s; --engine plain needs none)")
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
