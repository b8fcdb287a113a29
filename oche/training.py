"""Training a found network from scratch (1806.09055 §3.1.2 and appendix A.1; the seed's §4.3).

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .arch import Genotype
from .averaging import Moving, averaged, copy_into
from .data import Dataset, batches, halves, prepare, steps_per_epoch
from .evaluation import evaluate
from .image_recipe import RECIPES as RECIPES
from .image_recipe import Recipe, darts, imagenet_mobile, nb201, seed, small
from .loop import Clock, Meter, Record, Session, drive
from .precision import computing, plainly, prove
from .run.engine import Engine
from .seeds import fold, generator

__all__ = ["RECIPES", "Recipe", "Training", "darts", "imagenet_mobile", "nb201", "seed", "small", "train"]


class Training:
    """A training under way. A `oche.loop.Task`."""

    ended = False

    def __init__(
        self, genotype: Genotype, recipe: Recipe, data: Dataset, *, seed: int, engine: Engine, title: str
    ) -> None:
        engine = engine if recipe.precision == "float32" else plainly(engine)
        self.recipe, self.data, self.seed, self.engine, self.title = recipe, data, seed, engine, title
        self.augment, self.mixing, self.w = recipe.augmentation(data), recipe.mixing, recipe.descent
        with engine.seeded(fold(seed, "weights")):
            self.net = engine.place(recipe.network(genotype, data))
        self.computes = engine.equip(self.net, mixed=False)  # in which form, and why
        self.weights = list(self.net.parameters())
        self.optimizer = self.w.optimizer(self.weights)
        self.average = Moving(averaged(self.net), recipe.ema) if recipe.ema else None
        train, held, self.held = data.train, data.test, "test"
        if recipe.split < 1:  # the halves of a search with the same seed: no image moves from one to the other
            (train, held), self.held = halves(data.train, recipe.split, fold(seed, "halves")), "val"
        self.train_split = train.to(engine.device)
        self.held_split = None if held is None else held.to(engine.device)
        self.meters = {"train": Meter(engine.device)}
        self.epoch = 0
        self._stream: Iterator[tuple[Tensor, Tensor]] = iter(())

    @property
    def batch(self) -> int:
        return self.recipe.batch

    def rate(self, progress: float) -> float:
        """Learning rate of a step at ``progress``."""
        return self.w.rate(progress)

    def attempt(self, batch: int) -> None:
        """One step on ``batch`` images, to see whether that fits; nothing is to follow it."""
        self.recipe = replace(self.recipe, batch=batch)
        self.w = self.recipe.descent
        self.begin(0, 0)
        self.step(0, 1.0)

    def per_epoch(self) -> int:
        return steps_per_epoch(len(self.train_split), self.recipe.batch)

    def begin(self, epoch: int, position: int) -> None:
        self.epoch = epoch
        self._stream = batches(
            self.train_split, self.recipe.batch, seed=fold(self.seed, "order"), epoch=epoch, start=position
        )

    def step(self, step: int, progress: float) -> None:
        torch.manual_seed(fold(self.seed, "drop path", step))
        self.net.train()
        # Deviation 1 from the published code: the probability rises every step, not every epoch.
        self.net.set_drop_path(self.recipe.drop_path * progress)
        images, labels = next(self._stream)
        g = generator(self.seed, "augment", step, device=images.device)
        x = self.engine.images(prepare(images, self.data.mean, self.data.std, self.augment, g))
        labels = targets = labels.to(x.device)
        if self.mixing is not None:
            x, targets = self.mixing(x, labels, len(self.data.classes), g)
            labels = targets.argmax(1)  # the training accuracy is that of the larger share
        with computing(self.recipe.precision, x.device):
            out = self.net(x)
        logits, extra = out if isinstance(out, tuple) else (out, None)
        loss = self._loss(logits, targets)
        total = loss if extra is None else loss + self.recipe.auxiliary * self._loss(extra, targets)
        self.optimizer.zero_grad()
        total.backward()
        self.w.update(self.optimizer, self.weights, self.w.rate(progress))
        if self.average is not None:
            self.average.add(averaged(self.net))
        self.meters["train"].add(logits, labels, loss)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.to(self.engine.dtype), targets, label_smoothing=self.recipe.label_smoothing)

    def initial(self) -> Record | None:
        return None

    def report(self, progress: float) -> Record:
        record: Record = {"lr": self.w.rate(progress)}
        if self.held_split is not None and ((self.epoch + 1) % self.recipe.evaluate == 0 or progress >= 1):
            with self._averaged():
                loss, accuracy = evaluate(self.net, self.held_split, self.data, self.engine).means()
            record |= {f"{self.held}_loss": loss, f"{self.held}_acc": accuracy}
        return record

    def _averaged(self) -> AbstractContextManager[None]:
        """Within, the network is the one that is kept."""
        return nullcontext() if self.average is None else self.average.in_place_of(averaged(self.net))

    def conclude(self) -> None:
        """Leaves the weights that are kept in the network; no step is to follow."""
        if self.average is not None:
            copy_into(averaged(self.net), self.average.means)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state if self.average is None else state | {"average": self.average.state()}

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])


def train(
    genotype: Genotype,
    recipe: Recipe,
    data: Dataset,
    *,
    seed: int,
    engine: Engine,
    session: Session,
    title: str = "train",
    before: Callable[[Training], None] = lambda task: None,
) -> tuple[Training, Clock]:
    """Trains the network of ``genotype`` from wherever ``session`` left it; returns the training and its clock.

    ``before`` is shown the training as it stands ready, before its first step.
    """
    task = Training(genotype, recipe, data, seed=seed, engine=engine, title=title)
    before(task)
    with engine.running(), engine.seeded(seed):
        if recipe.precision != "float32":
            prove(task.net, (recipe.batch, data.channels, *data.image), task.engine)
        clock = drive(task, recipe.length, session)
        task.conclude()
        return task, clock
