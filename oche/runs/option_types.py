"""The options of `oche.search` and `oche.train` as types, so that editors complete them and type checkers see wrong names.

`oche.runs.options` reads the values. Every field of a configuration, a method and a recipe is an option here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from oche.core.eigenvalue_stop import EigenvalueStop
from oche.core.optimizers import Adam, ExponentiatedGradient, Sgd
from oche.data.augment.policies import Policy
from oche.devices.mixed_precision import Precision
from oche.methods.cost_in_loss import CostForm
from oche.methods.discretize import Decide
from oche.methods.hypergradients import HyperGradient
from oche.methods.method import Stage
from oche.methods.perturbations import Perturb
from oche.methods.regularizers import Penalty
from oche.methods.relaxations import Relaxation
from oche.networks.language_model import Dropouts
from oche.networks.macro import Stem, Widen
from oche.spaces.mixed_ops import EdgeBuilder
from oche.training.language_recipes import PlainSgd

OnEpoch = Callable[[dict[str, Any]], object]
"""A function that is called with the record of each epoch; see `oche.search`"""


class CommonOptions(TypedDict, total=False):
    """Options that searches and trainings have in common: `oche.runs.config.Common`."""

    data_dir: str | Path | None
    holdout: float
    limit: int | None
    size: int | None
    damaged: Literal["refuse", "skip"]
    layout: Literal["NHWC", "NCHW"] | None
    parts: str | Path | None
    tokens: Literal["words", "characters"]
    seed: int
    device: str
    threads: int
    engine: Literal["auto", "fused", "plain"]
    sync_bn: bool
    checkpoint: float
    plugins: Sequence[str | Path]


class SearchOptions(CommonOptions, total=False):
    """Options of `oche.search`: `SearchConfig`, and the fields of `SearchRecipe` and `Method`."""

    table: str | Path | None
    # of the recipe
    epochs: int
    steps: int | None
    budget: str | None
    batch: int
    split: float
    pad: int | None
    flip: bool | None
    precision: Precision
    target: str | None
    strength: float
    cost_recipe: str | None
    latencies: str | Path | None
    # of the method
    relax: Relaxation
    hypergrad: HyperGradient
    edge: EdgeBuilder
    stages: tuple[Stage, ...]
    penalty: Penalty | None
    perturb: Perturb | None
    decide: Decide | None
    select: Decide
    finetune_share: float
    weight_optimizer: Sgd
    arch_optimizer: Adam | ExponentiatedGradient
    batch_growth: int
    on_collapse: Literal["warn", "stop", "rollback"]
    none: Literal["always", "in-cells", "never"]
    hessian_every: int
    eigenvalue_stop: EigenvalueStop
    warmup: float
    arch_every: int
    cost_form: CostForm | None


class TrainOptions(CommonOptions, total=False):
    """Options of `oche.train`: `TrainConfig`, and the fields of `Recipe`, or for text of `LanguageRecipe`."""

    epochs: int
    steps: int | None
    budget: str | None
    batch: int
    w: Sgd | PlainSgd
    # of networks for images
    channels: int
    cells: int
    stem: Stem
    reductions: tuple[int, ...] | None
    widen: Widen
    head: tuple[int, ...]
    ema: float
    accumulate: int
    lr_batch: int | None
    split: float
    drop_path: float
    auxiliary: float
    label_smoothing: float
    mixup: float
    cutmix: float
    augment: Policy | None
    cutout: int | None
    pad: int | None
    crop: tuple[float, float] | None
    flip: bool | None
    precision: Precision
    evaluate: int
    freeze: float
    taken_lr: float
    init: str | Path | None
    # of language models
    width: int
    dropouts: Dropouts
    bptt: int
    varying: bool
    temporal: float
    activation: float
    patience: int
    valid_batch: int
    test_batch: int


class FitOptions(CommonOptions, total=False):
    """Options of `oche.fit`: the fields of `oche.runs.config.FitConfig`."""

    search: Literal["auto", "always", "never"]
    genotype: str | None
    channels: int | None
    cells: int | None
    batch: int | None
    stem: Stem | None
    init: str
    control: bool
    export: bool
