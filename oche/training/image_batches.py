"""Batches of images for a search: two parts of the training set, each read on from where it was left.

Shapes: B images, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.core.metrics import Meter
from oche.core.seeds import derive_seed, generator
from oche.data import Augment, Dataset, Split, batches, prepare, steps_per_epoch
from oche.data.batching import training_halves
from oche.devices.engine import Engine
from oche.devices.mixed_precision import Precision, precision_context
from oche.methods.hypergradients import Tensors
from oche.methods.recipe import SearchRecipe
from oche.training.divergence import check_numbers
from oche.training.evaluate import evaluate
from oche.training.losses import Mixes, Objective

Batch = tuple[Tensor, Tensor]  # prepared images (B, C, H, W), labels (B,)


class ImageBatches:
    """Training and validation batches of images. A one-level search draws both from the whole training set.

    With several processes, a batch is the union of all processes' parts, and each process draws its own part.
    """

    meter: type[Meter] = Meter

    def __init__(self, data: Dataset, recipe: SearchRecipe, seed: int, engine: Engine) -> None:
        self.data, self.seed, self.engine = data, seed, engine
        self.precision: Precision = recipe.precision
        self.augment = _augment(data.augment, recipe.pad, recipe.flip)
        parts = (data.train, data.train)
        if not recipe.method.hypergrad.one_level:
            parts = training_halves(data, recipe.split, seed)
        self.train, self.val = (part.to(engine.device) for part in parts)
        self._at = {"epoch": 0, "position": 0, "batch": 0}  # of the validation half, which has epochs of its own length
        self._streams: dict[str, Iterator[Batch]] = {}

    @staticmethod
    def check(data: Dataset, recipe: SearchRecipe) -> None:
        """Raise `OcheError` if the images are too few for the search."""
        images = len(data.train)
        if not recipe.method.hypergrad.one_level:
            check_split(recipe.split, images)
        recipe.check_length(images)

    def per_epoch(self, batch: int) -> int:
        """Return the number of steps of ``batch`` images in one epoch of the training part."""
        return steps_per_epoch(len(self.train), batch)

    def begin(self, epoch: int, position: int, batch: int) -> None:
        """Start an epoch of the training part at step ``position``, and continue the validation part where it was left."""
        self._streams["train"] = self._batches("train", self.train, batch, epoch, position)
        if self._at["batch"] not in (0, batch):  # a position counts batches of the old size
            self._at |= {"epoch": self._at["epoch"] + 1, "position": 0}
        self._at["batch"] = batch
        self._streams["val"] = self._endless(batch)

    def next_batch(self, name: str, step: int) -> Batch:
        """Return the next batch of "train" or "val", with the augmentation that belongs to ``step``."""
        return self._prepared(name, step, *next(self._streams[name]))

    def extra_batches(self, steps: int, batch: int, *stream: int | str, part: str = "train") -> Iterator[Batch]:
        """Yield ``steps`` more batches of the ``part`` "train" or "val" in an order of their own, which ``stream`` names.
        The other streams do not move.
        """
        name, split = ("extra", self.train) if part == "train" else ("extra val", self.val)
        each = steps_per_epoch(len(split), batch)
        for epoch in range(-(-steps // each)):
            drawn = self._batches(name, split, batch, epoch, 0, *stream)
            for step, (images, labels) in zip(range(epoch * each, steps), drawn, strict=False):
                yield self._prepared(name, step, images, labels, *stream)

    def probe_batch(self, epoch: int, batch: int) -> Batch:
        """Return a validation batch to measure on, not augmented. The search's own stream does not move."""
        drawn = next(self._batches("probe", self.val, batch, epoch, 0))
        return self._prepared("probe", epoch, *drawn, augment=False)

    def held_out(self, images: int | None) -> Split:
        """Return the validation part, or ``images`` images of it, always the same ones."""
        if images is None or images >= len(self.val):
            return self.val
        order = torch.randperm(len(self.val), generator=generator(self.seed, "held"))
        return self.val.subset(order[:images].sort().values)

    def _prepared(
        self, name: str, step: int, images: Tensor, labels: Tensor, *stream: int | str, augment: bool = True
    ) -> Batch:
        g = generator(
            self.seed, *self.engine.processes.rank_stream("augment", name, *stream, step), device=images.device
        )
        x = prepare(images, self.data.mean, self.data.std, self.augment if augment else None, g)
        x = self.engine.images(x)
        return x, labels.to(x.device)

    def _batches(
        self, name: str, split: Split, batch: int, epoch: int, start: int, *stream: int | str
    ) -> Iterator[Batch]:
        order, processes = derive_seed(self.seed, "order", name, *stream), self.engine.processes
        return batches(
            split, batch, seed=order, epoch=epoch, start=start, rank=processes.rank, world=processes.world_size
        )

    def _endless(self, batch: int) -> Iterator[Batch]:
        """Yield validation batches without end, from where they were left.

        Deviation 1 from the published code, which takes the first batch of a new shuffle every time.
        """
        at = self._at
        while True:
            for drawn in self._batches("val", self.val, batch, at["epoch"], at["position"]):
                at["position"] += 1
                yield drawn
            at |= {"epoch": at["epoch"] + 1, "position": 0}

    def objective(
        self,
        net: nn.Module,
        names: Mapping[str, int],
        own: Tensors,
        mix: Callable[[Tensors], Mixes],
        images: Tensor,
        labels: Tensor,
    ) -> Objective:
        """Return the loss of one batch as a function of weights and logits."""
        return Objective(net, names, own, mix, images, labels, self.engine.processes, self.precision)

    def carry_state(self, objective: Objective) -> None:
        """Pass the state that a batch leaves to the next one of its stream. Images leave none."""

    def score(self, net: nn.Module, mixes: Mixes, images: int | None) -> float:
        """Return the accuracy of the supernet under ``mixes`` on the validation part, or on ``images`` images of it.

        Raises `Diverged` if the loss is not finite, because the accuracy of such outputs means nothing.
        """

        def forward(x: Tensor) -> Tensor:
            with precision_context(self.precision, x.device):
                return net(x, mixes).to(x.dtype)

        split = self.held_out(images)
        loss, accuracy = evaluate(net, split, self.data, self.engine, forward=forward, by_batch=True).means()
        check_numbers({"val_loss": loss}, "under a part of the supernet")
        return accuracy or 0.0

    def state(self) -> dict[str, Any]:
        """Return the position in the validation part, for a checkpoint. The training part's follows from the clock."""
        return dict(self._at)

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self._at = dict(state)


def check_split(split: float, images: int) -> None:
    """Raise `OcheError` if ``split`` leaves one part of the training images empty."""
    if not 0 < round(split * images) < images:
        raise OcheError(
            f"split={split} of {images} training images leaves one part empty; use a share nearer to 0.5, or more images"
        )


def _augment(default: Augment, pad: int | None, flip: bool | None) -> Augment:
    return Augment(
        pad=default.pad if pad is None else pad,
        flip=default.flip if flip is None else flip,
        cutout=0,
    )
