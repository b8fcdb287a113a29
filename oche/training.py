"""Training a found network from scratch (1806.09055 §3.1.2 and appendix A.1; the seed's §4.3).

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .arch import Genotype
from .data import Augment, Dataset, batches, halves, prepare, steps_per_epoch
from .errors import OcheError
from .evaluation import evaluate
from .feed import check_split
from .genotypes import resolve
from .loop import Budget, Clock, Meter, Record, Session, drive
from .optim import Sgd
from .registry import component
from .run.engine import Engine
from .seeds import fold, generator
from .spaces.networks import FinalNetwork, build
from .spaces.skeleton import Stem, Widen


class Seen(Protocol):
    """What a network must know of the images it is to see; a `Dataset` does."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def channels(self) -> int: ...

    @property
    def image(self) -> tuple[int, int]: ...


@component
@dataclass(frozen=True)
class Recipe:
    """A final network's size and its training. Defaults are DARTS' for CIFAR-10."""

    domain: ClassVar[str] = "images"  #: what its networks take

    channels: int = 36
    """width of a cell before the first reduction"""
    cells: int = 20
    """cells in the network; of NAS-Bench-201's, in each of its three stages"""
    stem: Stem = "cifar"
    """cifar: one 3x3 convolution; imagenet: three of stride 2; none: the image enters the first cell"""
    reductions: tuple[int, ...] | None = None
    """cells that halve the map; by default the ⌊N/3⌋-th and the ⌊2N/3⌋-th"""
    widen: Widen = "at"
    """whether width doubles in the reduction cell, or in the cell after it"""
    head: tuple[int, ...] = ()
    """hidden widths of an MLP on the flattened map; empty: global pooling and one linear layer"""
    w: Sgd = Sgd()
    """optimiser"""
    batch: int = 96
    """images in a batch"""
    split: float = 1.0
    """share of the training set that trains; below 1 the rest validates, and the test images stay unseen (0.5: as a search)"""
    epochs: int = 600
    """passes over the training set"""
    steps: int | None = None
    """length in steps instead of epochs"""
    budget: str | None = None
    """length in time instead of epochs: 90s, 10m, 1h30m"""
    drop_path: float = 0.2
    """probability of dropping an edge's output at the end of training; it rises linearly from 0"""
    auxiliary: float = 0.4
    """weight of the auxiliary tower's loss; 0: no tower"""
    label_smoothing: float = 0.0
    """share of the target spread evenly over all classes"""
    cutout: int | None = None
    """side of the square erased from each training image; by default half the image for photographs, none for digits"""
    pad: int | None = None
    """random crops after padding by this many pixels; by default what suits the data"""
    flip: bool | None = None
    """random horizontal flips; by default what suits the data"""
    evaluate: int = 1
    """test (or validate) after every so many epochs, and at the end"""

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1 or not 0 <= self.label_smoothing < 1:
            raise OcheError(
                f"drop_path={self.drop_path}, label_smoothing={self.label_smoothing} are no probabilities below 1; "
                "use 0 <= value < 1"
            )
        if self.auxiliary and self.batch == 1:
            raise OcheError(
                "batch=1 gives the auxiliary tower's BatchNorm nothing to normalise; use batch >= 2 or auxiliary=0"
            )
        if not 0 < self.split <= 1:
            raise OcheError(f"split={self.split} leaves nothing to train on; use 0 < split <= 1")
        if (
            not 0 <= self.auxiliary < inf
            or self.batch < 1
            or self.evaluate < 1
            or min(self.cutout or 0, self.pad or 0) < 0
        ):
            raise OcheError(
                f"auxiliary={self.auxiliary}, batch={self.batch}, evaluate={self.evaluate}, cutout={self.cutout}, pad={self.pad} "
                "cannot train; use auxiliary >= 0, batch >= 1, evaluate >= 1, cutout >= 0, pad >= 0"
            )
        _ = self.length  # its own checks

    @property
    def length(self) -> Budget:
        return Budget.of(self.epochs, self.steps, self.budget)

    def network(self, genotype: Genotype, data: Seen) -> FinalNetwork:
        """The network for ``data``; drop path starts at 0."""
        return build(
            genotype, classes=len(data.classes), channels=self.channels, cells=self.cells,
            auxiliary=self.auxiliary > 0, stem=self.stem, in_channels=data.channels, image=data.image,
            reductions=self.reductions, widen=self.widen, head=self.head,
        )  # fmt: skip

    def check(self, genotype: str, data: Dataset) -> None:
        """Raises `OcheError` where no network of ``genotype``, text or name, can be trained so on ``data``."""
        if self.split < 1:
            check_split(self.split, len(data.train))
        self.augmentation(data)
        self.network(resolve(genotype), data)

    def augmentation(self, data: Dataset) -> Augment:
        """The data's own augmentation with this recipe's changes. Raises `OcheError` for a cutout that leaves nothing."""
        own, side = data.augment, min(data.image)
        flips = own.flip if self.flip is None else self.flip
        cutout = self.cutout if self.cutout is not None else (side // 2 if own.flip else 0)
        if cutout >= side:
            raise OcheError(
                f"cutout={cutout} can erase whole images of {data.image}; use cutout < {side}, often {side // 2}"
            )
        return Augment(pad=own.pad if self.pad is None else self.pad, flip=flips, cutout=cutout)


def darts(**fields) -> Recipe:
    """The published setting: 20 cells, C = 36, 600 epochs, batch 96, cutout 16, drop path 0.2, auxiliary tower 0.4."""
    return replace(Recipe(), **fields)


def seed(**fields) -> Recipe:
    """The seed document's final network and training (its §4.3, Figure 9, Table 4): 14 cells, C = 16, no extras."""
    plain = dict(drop_path=0.0, auxiliary=0.0, cutout=0, w=Sgd(clip=0.0), batch=128)
    shape = dict(channels=16, cells=14, stem="none", widen="after", head=(4096, 1024, 256))
    return replace(Recipe(), **{**plain, **shape, **fields})


def small(**fields) -> Recipe:
    """For two CPU cores and small images: 5 cells, C = 16, 30 epochs, without tower and drop path."""
    size = dict(channels=16, cells=5, epochs=30, batch=64, drop_path=0.0, auxiliary=0.0, w=Sgd(lr=0.05))
    return replace(Recipe(), **{**size, **fields})


def nb201(**fields) -> Recipe:
    """The training of NAS-Bench-201 (2001.00326 Table 1): C = 16, 3 stages of 5 cells, 200 epochs, batch 256, rate 0.1 to 0.

    Deviation 2 from it: momentum without Nesterov's correction.
    """
    size = dict(channels=16, cells=5, epochs=200, batch=256, w=Sgd(lr=0.1, decay=5e-4, clip=0.0))
    return replace(Recipe(), **{**size, **dict(drop_path=0.0, auxiliary=0.0, cutout=0), **fields})


RECIPES: dict[str, Callable[..., Recipe]] = {"darts": darts, "seed": seed, "small": small, "nb201": nb201}


class Training:
    """A training under way. A `oche.loop.Task`."""

    ended = False

    def __init__(
        self, genotype: Genotype, recipe: Recipe, data: Dataset, *, seed: int, engine: Engine, title: str
    ) -> None:
        self.recipe, self.data, self.seed, self.engine, self.title = recipe, data, seed, engine, title
        self.augment = recipe.augmentation(data)
        with engine.seeded(fold(seed, "weights")):
            self.net = engine.place(recipe.network(genotype, data))
        self.computes = engine.equip(self.net, mixed=False)  # in which form, and why
        self.weights = list(self.net.parameters())
        self.optimizer = recipe.w.optimizer(self.weights)
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
        return self.recipe.w.rate(progress)

    def attempt(self, batch: int) -> None:
        """One step on ``batch`` images, to see whether that fits; nothing is to follow it."""
        self.recipe = replace(self.recipe, batch=batch)
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
        labels = labels.to(x.device)
        out = self.net(x)
        logits, extra = out if isinstance(out, tuple) else (out, None)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        total = loss
        if extra is not None:
            second = F.cross_entropy(extra, labels, label_smoothing=self.recipe.label_smoothing)
            total = loss + self.recipe.auxiliary * second
        self.optimizer.zero_grad()
        total.backward()
        self.recipe.w.update(self.optimizer, self.weights, self.recipe.w.rate(progress))
        self.meters["train"].add(logits, labels, loss)

    def initial(self) -> Record | None:
        return None

    def report(self, progress: float) -> Record:
        record: Record = {"lr": self.recipe.w.rate(progress)}
        if self.held_split is not None and ((self.epoch + 1) % self.recipe.evaluate == 0 or progress >= 1):
            loss, accuracy = evaluate(self.net, self.held_split, self.data, self.engine).means()
            record |= {f"{self.held}_loss": loss, f"{self.held}_acc": accuracy}
        return record

    def state(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


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
        return task, drive(task, recipe.length, session)
