"""Train a found network from scratch (1806.09055 §3.1.2 and appendix A.1; the seed's §4.3).

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.budget import Clock
from oche.core.metrics import Meter
from oche.core.optimizers import load_optimizer
from oche.core.seeds import derive_seed, generator
from oche.data import Dataset, batches, prepare, steps_per_epoch
from oche.data.batching import training_halves
from oche.devices.engine import Engine
from oche.devices.mixed_precision import apply_precision, precision_context, with_precision
from oche.training.evaluate import evaluate
from oche.training.gradient_check import check_bf16_gradients
from oche.training.image_recipes import Recipe
from oche.training.loop import Record, Session, fit_loop
from oche.training.losses import frozen_statistics
from oche.training.warm_start import WarmStart
from oche.training.weight_averaging import MovingWeightAverage, averaged_tensors, copy_into


class SubBatch(NamedTuple):
    """A part of a batch: the images that pass the network at once, prepared. D edges have drop path, of K classes."""

    images: Tensor  # (B, C, H, W)
    targets: Tensor  # (B,) labels, or (B, K) shares of the classes
    drops: Tensor | None  # (D, B) of drop path
    share: float  # this part's share of the batch
    last: bool  # whether it is the last part of its batch


@checked
class Training:
    """A training in progress. Implements `oche.training.loop.Task`."""

    ended = False

    def __init__(
        self,
        genotype: Genotype,
        recipe: Recipe,
        data: Dataset,
        *,
        seed: int,
        engine: Engine,
        title: str,
        warm: WarmStart | None = None,
    ) -> None:
        """``warm``: the weights to begin with, from another network."""
        engine = with_precision(engine, recipe.precision, mixed=False)
        self.recipe, self.data, self.seed, self.engine, self.title = recipe, data, seed, engine, title
        self.augment, self.mixing, self.w = recipe.augmentation(data), recipe.mixing, recipe.descent
        with engine.seeded(derive_seed(seed, "weights")):
            self.net = engine.place(recipe.network(genotype, data))
        if warm is not None:
            warm.load_into(self.net)
        self.computes = apply_precision(engine, self.net, recipe.precision, mixed=False)  # the form, and why
        self.weights = list(self.net.parameters())
        self.taken = [w for name, w in self.net.named_parameters() if warm is not None and name in warm.tensors]
        self.optimizer = self.w.optimizer(self.weights, self.taken, recipe.taken_lr)
        self.model = engine.data_parallel(
            self.net, engine.processes.is_distributed and has_idle_weights(self.net, self.blank(2))
        )
        self.average = MovingWeightAverage(averaged_tensors(self.net), recipe.ema) if recipe.ema else None
        train, held, self.held = data.train, data.test, "test"
        if recipe.split < 1:  # the same halves as in a search with this seed, so no image moves between them
            (train, held), self.held = training_halves(data, recipe.split, seed), "val"
        self.train_split = train.to(engine.device)
        self.held_split = None if held is None else held.to(engine.device)
        self.meters = {"train": Meter(engine.device, engine.processes.all_reduce)}
        self.epoch = 0
        self._stream: Iterator[tuple[Tensor, Tensor]] = iter(())

    @property
    def batch(self) -> int:
        return self.recipe.batch

    @property
    def at_once(self) -> int:
        """The number of images that pass the network at once."""
        return self.recipe.at_once(self.engine)

    def rate(self, progress: float) -> float:
        """Return the learning rate of a step at ``progress``."""
        return self.w.rate(progress)

    def try_batch(self, batch: int) -> None:
        """Run one step on ``batch`` images to see whether it fits into memory. The task is unusable afterwards."""
        self.recipe = replace(self.recipe, batch=batch, accumulate=min(batch, self.recipe.accumulate))
        self.w = self.recipe.descent
        self.begin(0, 0)
        self.step(0, 1.0)

    def per_epoch(self) -> int:
        return steps_per_epoch(len(self.train_split), self.recipe.batch)

    def begin(self, epoch: int, position: int) -> None:
        self.epoch = epoch
        order, processes = derive_seed(self.seed, "order"), self.engine.processes
        self._stream = batches(
            self.train_split,
            self.recipe.batch,
            seed=order,
            epoch=epoch,
            start=position,
            rank=processes.rank,
            world=processes.world_size,
        )

    def step(self, step: int, progress: float) -> None:
        torch.manual_seed(derive_seed(self.seed, *self.engine.processes.rank_stream("drop path", step)))
        self.net.train()
        if self.taken and self.recipe.freeze:
            self._freeze(progress < self.recipe.freeze)
        # Deviation 1 from the published code: the probability rises every step, not every epoch.
        self.net.set_drop_path(self.recipe.drop_path * progress)
        share = 0.0 if self.average is None else self.average.count_step()
        self.update(self._parts(*next(self._stream), step), self.w.rate(progress), share)

    def _freeze(self, frozen: bool) -> None:
        """Fix the weights taken from another network, or let them move. BatchNorm statistics follow the images anyway."""
        for weight in self.taken:
            weight.requires_grad_(not frozen)
            if frozen:
                weight.grad = None

    def _parts(self, images: Tensor, labels: Tensor, step: int) -> Iterator[SubBatch]:
        """Yield a batch in parts, with the augmentation and the dropped paths that belong to ``step``."""
        g = generator(self.seed, *self.engine.processes.rank_stream("augment", step), device=images.device)
        parts = [*zip(images.chunk(self.recipe.accumulate), labels.chunk(self.recipe.accumulate), strict=True)]
        for i, (part_images, part_labels) in enumerate(parts, 1):
            x = self.engine.images(prepare(part_images, self.data.mean, self.data.std, self.augment, g))
            targets = part_labels.to(x.device)
            if self.mixing is not None:
                x, targets = self.mixing(x, targets, len(self.data.classes), g)
            drops = self.net.drops(x) if self.recipe.drop_path else None
            yield SubBatch(x, targets, drops, len(part_labels) / len(labels), i == len(parts))

    def update(self, parts: Iterable[SubBatch], rate: float, share: float) -> None:
        """Update the weights by the ``parts`` of one batch, at learning ``rate``.

        ``share``: the share of the new weights in their moving average.
        """
        self.optimizer.zero_grad()
        for part in parts:
            with self.engine.delay_gradient_sync(self.model, part.last):
                self._add(part)
        self.w.update(self.optimizer, self.weights, rate)
        if self.average is not None:
            self.average.update(averaged_tensors(self.net), share)

    def _add(self, part: SubBatch) -> None:
        """Add the gradient of one part of a batch."""
        x, targets = part.images, part.targets
        with precision_context(self.recipe.precision, x.device):
            out = self.model(x, part.drops)
        logits, extra = out if isinstance(out, tuple) else (out, None)
        loss = self._loss(logits, targets)
        total = loss if extra is None else loss + self.recipe.auxiliary * self._loss(extra, targets)
        (part.share * total).backward()
        # The training accuracy of mixed images counts the class with the larger share.
        self.meters["train"].add(logits, targets if targets.dim() == 1 else targets.argmax(1), loss)

    def blank(self, count: int) -> Tensor:
        """Return ``count`` black images of the data's size, prepared for the network."""
        return self.engine.images(torch.zeros(count, self.data.channels, *self.data.image))

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
        """Within, the network has the averaged weights, if there is an average."""
        return nullcontext() if self.average is None else self.average.swapped_in(averaged_tensors(self.net))

    def conclude(self) -> None:
        """Put the weights that are kept into the network. Call it after the last step."""
        if self.average is not None:
            copy_into(averaged_tensors(self.net), self.average.means)

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, statistics and their averages, which must be finite."""
        means = [] if self.average is None or not self.average.count else self.average.means
        names = [name for name, _ in self.net.named_parameters()]
        names += [name for name, b in self.net.named_buffers() if b.is_floating_point()]  # as in `averaged_tensors`
        return {
            **self.net.state_dict(),
            **{f"the average of {name}": mean for name, mean in zip(names, means, strict=False)},
        }

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state if self.average is None else state | {"average": self.average.state()}

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        load_optimizer(self.optimizer, state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])


def has_idle_weights(net: nn.Module, images: Tensor) -> bool:
    """Whether some weights get no gradient in training, as when no edge of a cell reads one of its inputs.

    ``images`` (B, C, H, W) are any input for the network, B at least 2.
    """
    net.train()
    with frozen_statistics(net):
        out = net(images)
        total = sum(t.sum() for t in (out if isinstance(out, tuple) else (out,)))
        found = torch.autograd.grad(cast(Tensor, total), list(net.parameters()), allow_unused=True)
    return any(gradient is None for gradient in found)


@checked
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
    warm: WarmStart | None = None,
) -> tuple[Training, Clock]:
    """Train the network of ``genotype`` from where ``session`` left it. Return the training and its clock.

    ``warm``: the weights to begin with. ``before`` is called with the training before its first step. Raises what
    `fit_loop` raises.
    """
    task = Training(genotype, recipe, data, seed=seed, engine=engine, title=title, warm=warm)
    before(task)
    with engine.using_threads(), engine.seeded(seed):
        if recipe.precision != "float32":
            with engine.processes.raise_together():
                check_bf16_gradients(task.net, (task.at_once, data.channels, *data.image), task.engine)
        clock = fit_loop(task, recipe.length, session)
        task.conclude()
        return task, clock
