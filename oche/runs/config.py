"""Configurations of runs: complete, typed, written to config.yaml, and enough to repeat the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from oche.core.errors import OcheError
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.spaces.darts_cnn import ConvSpace
from oche.training.image_recipes import Recipe
from oche.training.language_recipes import LanguageRecipe


@dataclass(frozen=True, kw_only=True)
class Common:
    """Settings that searches and trainings have in common. Raises `OcheError` for values out of range."""

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
    tokens: Literal["words", "characters"] = "words"
    """tokens of a text"""
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


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Common):
    """The configuration of a search."""

    method: str = "darts"
    """name of the method that `search` started from (see `oche list methods`)"""
    space: Space = field(default_factory=ConvSpace)
    search: SearchRecipe = field(default_factory=SearchRecipe)
    table: Path | None = None
    """file with NAS-Bench-201's accuracies (see oche.core.nasbench201.Table), to record the true accuracies of each epoch's
    cells; by default that of the environment variable OCHE_NB201, for CIFAR-10, CIFAR-100 and ImageNet16-120
    """


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Common):
    """The configuration of a training of a found or published network."""

    genotype: str = ""
    """the cells to train: a published name, the text of a genotype, or lstm, with which found recurrent cells are compared"""
    recipe: str = "darts"
    """name of the recipe that `train` started from: darts, modern, imagenet-mobile, seed, small, nb201; for language models
    recurrent, recurrent-small
    """
    train: Recipe | LanguageRecipe = field(default_factory=Recipe)
    init: Path | None = None
    """a training, or a file of weights, to begin with: weights of the same name and size are taken, the others start anew; for
    images
    """
