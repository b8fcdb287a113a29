"""Evaluators: a table of NAS-Bench-201, a training from scratch, and training-free scores.

Shared weights are in `oche.strategies.shared`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from oche.blackbox.base import Evaluator, Report
from oche.core.architecture import Dag, Genotype
from oche.core.arguments import checked
from oche.core.errors import OcheError, one_line
from oche.core.nasbench201 import OPERATIONS, Table
from oche.core.seeds import derive_seed
from oche.cost.breakdown import final_network
from oche.cost.module_cost import parameters
from oche.data import Dataset, prepare
from oche.devices.engine import Engine
from oche.spaces.base import Space
from oche.spaces.nasbench201 import NB201Space
from oche.strategies.training_free import controls, evaluate_score, find_score
from oche.training.divergence import Diverged
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import train
from oche.training.loop import Session


@checked
@dataclass(frozen=True)
class TableAccuracy(Evaluator):
    """Accuracies of a table of NAS-Bench-201, in [0, 1]. A query costs 1.

    The benchmark's protocol searches on a column of validation accuracies after 12 epochs. Raises `OcheError` for a column that
    the table lacks, and for one of test accuracies unless ``oracle`` is set.
    """

    unit: ClassVar[Literal["queries", "seconds", "epochs"]] = "queries"

    path: Path
    column: str = "cifar10_valid_12ep"
    oracle: bool = False

    def __post_init__(self) -> None:
        if self.column not in self.table.columns:
            known = [name for name in self.table.columns if self.oracle or "_test_" not in name]
            raise OcheError(f"{self.path} has no column {self.column!r}; use one of {', '.join(known)}")
        if "_test_" in self.column and not self.oracle:
            raise OcheError(
                f"column {self.column} has test accuracies, on which no search may choose; use "
                f"{self.column.split('_')[0]}_valid_12ep, or --oracle to search on them all the same"
            )

    @cached_property
    def table(self) -> Table:
        """The table, read once."""
        return Table(self.path)

    @cached_property
    def _scores(self) -> dict[str, float]:
        return dict(zip(self.table.archs, (self.table.accuracies(self.column) / 100).tolist(), strict=True))

    def __call__(self, genotype: Genotype, fidelity: float, seed: int) -> Report:
        if fidelity < 1:
            raise OcheError(f"a table has one fidelity, and {fidelity:g} was asked for; use --evaluate train")
        return Report(self.table.accuracy(genotype, self.column) / 100, 1.0)

    def scores(self) -> dict[str, float]:
        """Return the score of every cell, by its text."""
        return self._scores

    def true_column(self) -> str:
        """Return the column of test accuracies after 200 epochs on the same data."""
        return f"{self.column.split('_')[0]}_test_200ep"

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "table", "unit": self.unit, "column": self.column, "oracle": self.oracle}


def check_space_has_table(space: Space) -> None:
    """Raise `OcheError` unless a table of NAS-Bench-201 knows the cells of ``space``."""
    if not isinstance(space, NB201Space) or not set(space.candidates) <= set(OPERATIONS):
        raise OcheError(
            "a table knows the cells of NAS-Bench-201 only; use --space nb201, or --evaluate train, shared or score:NAME"
        )


@checked
@dataclass(frozen=True)
class Training(Evaluator):
    """A training from scratch by ``recipe`` on a part of the training images; the rest validates. A query costs its seconds.

    Fidelity is the share of the recipe's epochs (or steps), with the learning rate's schedule scaled to them. ``by="val_acc"``
    scores the validation accuracy at the end. ``by="losses"`` scores minus the sum of the epochs' training losses (Ru et
    al., 2006.04492). The test images stay unseen. Raises `OcheError` for a recipe that leaves no images to validate on.
    """

    unit: ClassVar[Literal["queries", "seconds", "epochs"]] = "seconds"

    data: Dataset
    recipe: Recipe
    engine: Engine
    by: Literal["val_acc", "losses"] = "val_acc"
    stopping: Callable[[], bool] | None = None  #: whether the user asked to stop; then the training is given up

    def __post_init__(self) -> None:
        if not self.recipe.split < 1:
            raise OcheError("a search needs images to validate on; use --train.split 0.5, which trains on half of them")
        if self.recipe.budget is not None:
            raise OcheError("trainings of equal length are compared; give --train.epochs instead of --train.budget")

    def __call__(self, genotype: Genotype, fidelity: float, seed: int) -> Report:
        recipe, session = self._scaled(fidelity), _Watched(self.stopping)
        self.recipe.check(str(genotype), self.data, self.engine)
        began = time.perf_counter()
        try:
            task, clock = train(genotype, recipe, self.data, seed=seed, engine=self.engine, session=session)
        except Diverged as error:
            return Report.failed(time.perf_counter() - began, fidelity, one_line(error))
        losses = [row["train_loss"] for row in session.history if row.get("train_loss") is not None]
        numbers = {
            "val_acc": session.history[-1].get("val_acc"),
            "sum_train_loss": sum(losses),
            "epochs": clock.epoch,
            "weights": parameters(task.net),
        }
        score = numbers["val_acc"] if self.by == "val_acc" else -numbers["sum_train_loss"]
        return Report(math.nan if score is None else score, time.perf_counter() - began, fidelity, numbers=numbers)

    def _scaled(self, fidelity: float) -> Recipe:
        steps = self.recipe.steps
        return replace(
            self.recipe,
            epochs=max(1, round(fidelity * self.recipe.epochs)),
            steps=steps and max(1, round(fidelity * steps)),
            evaluate=self.recipe.epochs,  # the last epoch is validated all the same
        )

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "train", "unit": self.unit, "by": self.by}


class _Watched(Session):
    """The session of one training; it is given up when the user asks to stop."""

    def __init__(self, stop: Callable[[], bool] | None) -> None:
        super().__init__()
        self._stop = stop

    def stopping(self) -> bool:
        return self._stop is not None and self._stop()


@checked
@dataclass(frozen=True)
class TrainingFree(Evaluator):
    """A score of an untrained network, from one batch of training images; see `oche.strategies.training_free`.

    A query costs its seconds. Weights and FLOPs stand beside each score. A score that is NaN ranks last. ``space`` sizes the
    network. Weights are drawn from the seed alone, so networks of equal shape start alike.
    """

    unit: ClassVar[Literal["queries", "seconds", "epochs"]] = "seconds"

    name: str
    data: Dataset
    space: Space
    engine: Engine
    batch: int = 32

    def __post_init__(self) -> None:
        find_score(self.name)
        if not 2 <= self.batch <= len(self.data.train):
            raise OcheError(
                f"batch={self.batch} images score no network; use 2 to {len(self.data.train)}, the training images"
            )

    def __call__(self, genotype: Genotype, fidelity: float, seed: int) -> Report:
        if fidelity < 1:
            raise OcheError(f"a training-free score has one fidelity, and {fidelity:g} was asked for")
        began = time.perf_counter()
        x, y = self._images(seed)
        with self.engine.seeded(derive_seed(seed, "weights")):
            net = self.engine.place(final_network(self.space, genotype))
        score = evaluate_score(self.name, net, x, y)
        return Report(score, time.perf_counter() - began, numbers=controls(net, x))

    def _images(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the batch, the same for every network: images prepared without augmentation, and labels."""
        g = torch.Generator().manual_seed(derive_seed(seed, "batch"))
        images, labels = self.data.train.gather(torch.randperm(len(self.data.train), generator=g)[: self.batch])
        return self.engine.images(prepare(images, self.data.mean, self.data.std)), labels.to(self.engine.device)

    def describe(self) -> dict[str, Any]:
        return {"evaluator": f"score:{self.name}", "unit": self.unit, "batch": self.batch}


def masks_of(genotype: Genotype, groups: Mapping[str, Dag], candidates: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Return the masks (E, O) of a genotype, by cell name: True for the one candidate of each edge that it has."""
    masks = {}
    for name, dag in groups.items():
        mask = torch.zeros(len(dag), len(candidates), dtype=torch.bool)
        place = {edge: e for e, edge in enumerate(dag.edges)}
        for op, source, target in genotype.cells[name].edges:
            mask[place[source, target], candidates.index(op)] = True
        masks[name] = mask
    return masks
