"""The weights that a training begins with: read from another run or file, and kept in the run's own directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oche.core.atomic_files import read_json
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.networks.macro import Stem
from oche.runs.checkpoint import load_weights, weights_metadata
from oche.runs.config import TrainConfig
from oche.runs.directory import RunDir
from oche.runs.run import Run
from oche.training.image_recipes import Recipe
from oche.training.warm_start import WarmStart, plan_warm_start

METADATA_KEY = "oche.model"  # of the description of a network in the metadata of its exported weights
INIT = "init.safetensors"  # in a run: the weights that it began with, so that it needs no other file to be resumed


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


@dataclass(frozen=True)
class Pretrained:
    """A network that was trained before: the run or file of its weights, its cells and its size."""

    where: str
    genotype: str
    channels: int
    cells: int
    stem: Stem
    title: str = ""
    """its name for people; by default ``where``"""

    @property
    def name(self) -> str:
        """The title, else where the weights are."""
        return self.title or self.where


def describe_weights(where: Path) -> Pretrained | None:
    """Return the network of a training, or of an exported file of weights; None if the file does not say."""
    if where.is_dir():
        run = Run.open(where).trained()
        recipe = run.config.train
        return Pretrained(str(where), str(run.genotype), recipe.channels, recipe.cells, recipe.stem)
    if (text := weights_metadata(where).get(METADATA_KEY)) is None:
        return None
    about = json.loads(text)
    size = about["recipe"]
    return Pretrained(str(where), about["genotype"], size["channels"], size["cells"], size["stem"])


def keep_warm_start(run: RunDir, warm: WarmStart) -> None:
    """Write the weights that a training begins with into its directory."""
    run.write_weights(INIT, dict(warm.tensors), {"source": warm.source, "new": json.dumps(warm.new)})


def kept_warm_start(path: Path) -> WarmStart | None:
    """Return the weights that the training at ``path`` began with; None if it began anew."""
    if not (path / INIT).exists():
        return None
    facts = weights_metadata(path / INIT)
    return WarmStart(facts["source"], load_weights(path / INIT), tuple(json.loads(facts["new"])))
