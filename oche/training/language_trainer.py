"""Train a found recurrent cell from scratch as a language model (1806.09055 §3.2 and appendix A.2; 1708.02182).

Shapes: T steps of a window, B streams, H width, V words.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Genotype
from oche.core.budget import Clock
from oche.core.errors import OcheError
from oche.core.metrics import Meter, WordMeter, perplexity
from oche.core.optimizers import load_optimizer
from oche.core.seeds import derive_seed
from oche.data.text.bptt import fixed_windows, parallel_streams, varying_windows
from oche.data.text.corpus import Corpus, check_vocabulary
from oche.devices.engine import Engine
from oche.networks.language_model import DropoutMasks
from oche.training.divergence import check_numbers
from oche.training.language_recipes import LanguageRecipe
from oche.training.loop import Record, Session, fit_loop
from oche.training.text_batches import regularisation, word_loss
from oche.training.weight_averaging import NonMonotonicTrigger, WeightAverage, copy_into


class LanguageTraining:
    """A training in progress. Implements `oche.training.loop.Task`.

    The hidden state passes from window to window and is zero at the start of a pass over the text. The weights, or
    their average, with the lowest validation loss are kept as ``best``. Deviation 1 from the released code, which
    returns to the best weights when a loss is not finite and tries other random numbers: here the loop stops with an
    error.
    """

    ended = False

    def __init__(
        self, genotype: Genotype | str, recipe: LanguageRecipe, corpus: Corpus, *, seed: int, engine: Engine, title: str
    ) -> None:
        self.recipe, self.corpus, self.seed, self.engine, self.title = recipe, corpus, seed, engine, title
        with engine.seeded(derive_seed(seed, "weights")):
            self.net = engine.place(recipe.network(genotype, len(corpus.vocabulary)))
        self.computes = engine.apply_form(self.net)  # the form, and why
        self.weights = list(self.net.parameters())
        self.optimizer = torch.optim.SGD(self.weights, lr=recipe.w.lr, weight_decay=recipe.w.decay)
        self.stream = parallel_streams(corpus.train, recipe.batch, recipe.bptt).to(engine.device)  # (steps, B)
        self.valid = corpus.valid.to(engine.device)
        self.meter = WordMeter(engine.device)
        self.meters: dict[str, Meter] = {"train": self.meter}
        self.trigger = NonMonotonicTrigger(recipe.patience)
        self.average: WeightAverage | None = None
        self.best: tuple[float, list[Tensor]] | None = None  # validation loss, weights
        self.hidden: Tensor | None = None
        self._rate = recipe.w.lr
        self._at = 0
        self._plan(0)

    @property
    def batch(self) -> int:
        return self.stream.shape[1]

    def _plan(self, epoch: int) -> None:
        """Choose the windows of an epoch. Their number varies with their lengths."""
        self.epoch, steps, bptt = epoch, len(self.stream), self.recipe.bptt
        random = Random(derive_seed(self.seed, "windows", epoch))
        self.windows = varying_windows(steps, bptt, random) if self.recipe.varying else fixed_windows(steps, bptt)

    def rate(self, progress: float) -> float:
        """Return the learning rate of the last step."""
        del progress
        return self._rate

    def try_batch(self, batch: int) -> None:
        """Run one step on ``batch`` streams, with the longest window, to see whether it fits into memory.

        The task is unusable afterwards.
        """
        self.stream = parallel_streams(self.corpus.train, batch, self.recipe.bptt).to(self.engine.device)
        self._plan(0)
        self.windows = [max(self.windows, key=lambda window: window[1])]
        self.begin(0, 0)
        self.step(0, 1.0)

    def per_epoch(self) -> int:
        return len(self.windows)

    def begin(self, epoch: int, position: int) -> None:
        self._at = position
        if position == 0:
            self.hidden = None

    def step(self, step: int, progress: float) -> None:
        recipe = self.recipe
        start, length = self.windows[self._at]
        tokens, targets = (self.stream[k : k + length] for k in (start, start + 1))
        torch.manual_seed(derive_seed(self.seed, "dropout", step))
        self.net.train()
        masks = self.net.masks(self.batch)
        share = 0.0 if self.average is None else self.average.count_step()
        # Deviation 2 from the released code, which scales the last window of an epoch as if the text went on.
        self._rate = recipe.w.lr * length / recipe.bptt
        self.update(tokens, targets, self.hidden, masks, self._rate, share)
        self._at += 1

    def update(
        self, tokens: Tensor, targets: Tensor, hidden: Tensor | None, masks: DropoutMasks, rate: float, share: float
    ) -> None:
        """Update the weights by one window: ``tokens`` and ``targets`` (T, B), state ``hidden`` (1, B, H), dropout
        ``masks``.

        ``share``: the share of the new weights in their average.
        """
        recipe = self.recipe
        out = self.net(tokens, hidden, masks)
        loss = word_loss(out, targets)
        self.optimizer.zero_grad()
        (loss + regularisation(out, recipe.temporal, recipe.activation)).backward()
        if recipe.w.clip:
            nn.utils.clip_grad_norm_(self.weights, recipe.w.clip)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.weights, share)
        self.meter.add_words(loss, targets.numel())
        self.hidden = out.hidden.detach()

    def initial(self) -> Record | None:
        return None

    def report(self, progress: float) -> Record:
        averaged = self.average is not None and self.average.count > 0
        with (self.average or WeightAverage(())).swapped_in(self.weights):
            loss = cross_entropy(self.net, self.valid, self.recipe.valid_batch, self.recipe.bptt)
            if self.best is None or loss < self.best[0]:
                self.best = loss, [w.detach().clone() for w in self.weights]
        if self.average is None and self.trigger(loss):
            self.average = WeightAverage(self.weights)
        self._plan(self.epoch + 1)
        return {"lr": self.recipe.w.lr, "averaged": averaged, "val_loss": loss, "val_ppl": perplexity(loss)}

    def conclude(self) -> Record:
        """Put the best weights into the network and test them. Return the metrics.

        Raises `Diverged` if the loss or the perplexity of the test text is not finite.
        """
        assert self.best is not None  # every epoch ends with a validation
        copy_into(self.weights, self.best[1])
        found = {"val_loss": self.best[0], "val_ppl": perplexity(self.best[0])}
        if self.corpus.test is None:
            return found
        test = self.corpus.test.to(self.engine.device)
        loss = cross_entropy(self.net, test, self.recipe.test_batch, self.recipe.bptt)
        found |= {"test_loss": loss, "test_ppl": perplexity(loss)}
        check_numbers(found, "with the best weights")
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights and their averages, which must be finite."""
        names = [name for name, _ in self.net.named_parameters()]
        means = [] if self.average is None or not self.average.count else self.average.means
        averages = {f"the average of {name}": mean for name, mean in zip(names, means, strict=False)}
        return {**self.net.state_dict(), **averages}

    def state(self) -> dict[str, Any]:
        average, best = self.average, self.best
        return {
            "vocabulary": self.corpus.vocabulary, "epoch": self.epoch, "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(), "hidden": self.hidden,
            "losses": list(self.trigger.losses),
            "average": None if average is None else {"count": average.count, "means": list(average.means)},
            "best": None if best is None else {"loss": best[0], "weights": list(best[1])},
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`. Raises `OcheError`, before anything changes, for another vocabulary or cell."""
        check_vocabulary(self.corpus, state["vocabulary"])
        own_shapes, kept_shapes = (
            {k: v.shape for k, v in net.items()} for net in (self.net.state_dict(), state["net"])
        )
        if own_shapes != kept_shapes:
            raise OcheError("the checkpoint is of a network with other shapes; start a new run, in another directory")
        self.net.load_state_dict(state["net"])
        load_optimizer(self.optimizer, state["optimizer"])
        device, average, best = self.engine.device, state["average"], state["best"]
        self.hidden = None if state["hidden"] is None else state["hidden"].to(device)
        self._plan(state["epoch"])
        self.trigger = NonMonotonicTrigger(self.recipe.patience, state["losses"])
        self.average = None if average is None else WeightAverage(self.weights, average["means"], average["count"])
        self.best = None if best is None else (best["loss"], [w.to(device) for w in best["weights"]])


@torch.no_grad()
def cross_entropy(net: nn.Module, tokens: Tensor, batch: int, bptt: int) -> float:
    """Return the mean cross-entropy of ``tokens`` (N,), in nats a token, computed in ``batch`` streams without dropout.

    The hidden state passes from window to window. A text too short for ``batch`` streams has fewer. Deviation 3 from
    the released code, which divides by one step too many: this is the mean over the predicted words.
    """
    text, before = parallel_streams(tokens, max(1, min(batch, len(tokens) // (bptt + 1)))), net.training
    meter, hidden = WordMeter(tokens.device), None
    net.eval()
    for start, length in fixed_windows(len(text), bptt):
        out = net(text[start : start + length], hidden)
        targets = text[start + 1 : start + 1 + length]
        meter.add_words(word_loss(out, targets), targets.numel())
        hidden = out.hidden
    net.train(before)
    return meter.means()[0] or 0.0


def train(
    genotype: Genotype | str,
    recipe: LanguageRecipe,
    corpus: Corpus,
    *,
    seed: int,
    engine: Engine,
    session: Session,
    title: str = "train",
    before: Callable[[LanguageTraining], None] = lambda task: None,
) -> tuple[LanguageTraining, Clock, Record]:
    """Train the language model of ``genotype`` from where ``session`` left it, and test its best weights.

    Return the training, its clock and the metrics of the best weights. ``before`` is called with the training before
    its first step.
    """
    task = LanguageTraining(genotype, recipe, corpus, seed=seed, engine=engine, title=title)
    before(task)
    with engine.using_threads(), engine.seeded(seed):
        clock = fit_loop(task, recipe.length, session)
        return task, clock, task.conclude()
