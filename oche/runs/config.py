"""Configurations of runs: complete, typed, written to config.yaml, and enough to repeat the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from oche.core.arguments import checked
from oche.core.budget import parse_duration
from oche.core.errors import OcheError
from oche.methods.recipe import SearchRecipe
from oche.networks.macro import Stem
from oche.spaces.base import Space
from oche.spaces.darts_cnn import ConvSpace
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import LanguageRecipe

SHORTEST = 60.0  # seconds: reading data, timing steps and the report take a good part of less


@checked
@dataclass(frozen=True, kw_only=True)
class Common:
    """Settings that searches and trainings have in common. Raises `OcheError` for values out of range."""

    former: ClassVar[Mapping[str, Any]] = {"layout": None, "parts": None}  # new fields, which records of 0.1 lack

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, svhn; a folder of class folders; a .parquet or .npz file; hf:owner/name;
    text: ptb, wikitext2, a text file or a folder with one for each part"""
    data_dir: Path | None = None
    """folder with archives downloaded by hand, used instead of the network"""
    holdout: float = 0.2
    """share of the images that becomes the test part, for data without one"""
    limit: int | None = None
    """use only this many training images, drawn evenly over the classes; of a text the first so many tokens"""
    size: int | None = None
    """side in pixels to which images of a folder are resized"""
    damaged: Literal["refuse", "skip"] = "refuse"
    """what to do about images that cannot be decoded: refuse to start, or skip them, which takes one more pass over the
    data
    """
    layout: Literal["NHWC", "NCHW"] | None = None
    """axes of arrays with four axes: channels last or channels second; by default the one of both with 1 to 4 entries, if only
    one has
    """
    tokens: Literal["words", "characters"] = "words"
    """tokens of a text"""
    parts: Path | None = None
    """directory of a run on the same data, whose test images stay test images; the training of a run's cells names that run"""
    seed: int = 0
    """seed of every random number of the run"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    threads: int = 0
    """CPU threads; 0: torch's default"""
    engine: Literal["auto", "fused", "plain"] = "auto"
    """form in which cells compute: auto takes the fastest form that the device and the installed tools allow, fused refuses
    to start without a fast form, plain takes the plain modules; all give the same numbers up to rounding
    """
    sync_bn: bool = False
    """with several ranks (torchrun): whether BatchNorms normalise by the images of all ranks, not by those of each"""
    checkpoint: float = 60.0
    """seconds between checkpoints"""
    plugins: tuple[Path, ...] = ()
    """Python files to run first, for your own operations"""

    def __post_init__(self) -> None:
        if not 0 <= self.holdout < 1:
            raise OcheError(f"holdout={self.holdout} leaves nothing to train on; use 0 <= holdout < 1")
        if self.checkpoint < 0 or self.threads < 0:
            raise OcheError(f"checkpoint={self.checkpoint}, threads={self.threads} are negative; use values >= 0")


@checked
@dataclass(frozen=True, kw_only=True)
class SearchConfig(Common):
    """The configuration of a search."""

    method: str = "darts"
    """name of the method that `search` started from (see `oche list methods`)"""
    space: Space = field(default_factory=ConvSpace)
    """the architectures to choose from, and the size of their supernet"""
    search: SearchRecipe = field(default_factory=SearchRecipe)
    """the parts of the method, and the length, batches and cost target of the search"""
    table: Path | None = None
    """file with NAS-Bench-201's accuracies (see oche.core.nasbench201.Table), to record the true accuracies of each epoch's
    cells; by default that of the environment variable OCHE_NB201, for CIFAR-10, CIFAR-100 and ImageNet16-120
    """


@checked
@dataclass(frozen=True, kw_only=True)
class TrainConfig(Common):
    """The configuration of a training of a found or published network."""

    former: ClassVar[Mapping[str, Any]] = {**Common.former, "init": None}

    genotype: str = ""
    """the cells to train: a published name, the text of a genotype, or lstm, with which found recurrent cells are compared"""
    recipe: str = "darts"
    """name of the recipe that `train` started from: darts, modern, imagenet-mobile, seed, small, nb201; for language models
    recurrent, recurrent-small
    """
    train: Recipe | LanguageRecipe = field(default_factory=Recipe)
    """size of the network, length and settings of its training"""
    init: Path | None = None
    """a training, or a file of weights, to begin with: weights of the same name and size are taken, the others start anew; for
    images
    """


@checked
@dataclass(frozen=True, kw_only=True)
class FitConfig(Common):
    """The configuration of a fit. None leaves a value to the planner. Raises `OcheError` for values out of range."""

    budget: str = "1h"
    """time until the network is trained, assessed and exported: 10m, 1h30m; controls come after it"""
    search: Literal["auto", "always", "never"] = "auto"
    """whether to search for cells: auto searches if the budget pays for a search that decides"""
    genotype: str | None = None
    """cells to train instead: a published name, a file, or the text of a genotype"""
    channels: int | None = None
    """width of the trained network before its first reduction"""
    cells: int | None = None
    """cells of the trained network; of a cell of NAS-Bench-201, in each of the three stages"""
    batch: int | None = None
    """images in a training step"""
    stem: Stem | None = None
    """the layers before the first cell: cifar, stride2, stride4, imagenet or none"""
    init: str = "auto"
    """weights to begin with: a training or a file of weights, none, or auto: those that oche ships, where they help"""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """precision of convolutions in trainings: auto takes bfloat16 where it is faster here and its gradients are right"""
    control: bool = True
    """whether to train a plain residual network of like cost, and after a search a random cell, the same way for comparison"""
    export: bool = True
    """whether to export the network to ONNX, where the packages for it are installed"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds < SHORTEST:
            raise OcheError(f"budget={self.budget!r} is too short to train and assess a network; use 1m or more")
        for name in ("channels", "cells", "batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise OcheError(f"{name}={value} leaves nothing to train; use {name} >= 1, or leave it to the planner")
        if self.genotype is not None and self.search == "always":
            raise OcheError("genotype and search=always contradict each other; give one of them")

    @property
    def seconds(self) -> float:
        """The budget in seconds."""
        return parse_duration(self.budget)
