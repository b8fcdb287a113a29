"""Windows of text for a search of recurrent cells: training and validation text, and the hidden state between windows.

Shapes: N tokens, B streams, S steps of a stream, T steps of a window, H width, V words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.core.metrics import WordMeter
from oche.core.seeds import derive_seed, generator
from oche.data.text.bptt import parallel_streams
from oche.data.text.corpus import Corpus, check_vocabulary
from oche.devices.engine import Engine
from oche.methods.hypergradients import Tensors
from oche.methods.recipe import SearchRecipe
from oche.networks.language_model import DropoutMasks, LanguageOutput
from oche.spaces.darts_rnn import RecurrentSpace
from oche.training.divergence import check_numbers
from oche.training.losses import Mixes, forward, frozen_statistics


class Stream:
    """A text as B parallel pieces, read in windows of T steps. ``at`` is the number of the next window.

    ``hidden`` (1, B, H) is the state after the last window, None at the beginning of the text. Each pass over the
    text is an ``epoch``. Steps that do not fill a window are left out, a varying number of them at the start, so that
    windows do not always begin at the same words. (Deviation 1 from DARTS' released code, in which one window in 20
    has half the length.)
    """

    def __init__(self, tokens: Tensor, batch: int, bptt: int, seed: int) -> None:
        self.steps = parallel_streams(tokens, batch, bptt)  # (S, B)
        self.bptt, self.seed = bptt, seed
        self.epoch, self.at, self.hidden = 0, 0, None

    hidden: Tensor | None

    def __len__(self) -> int:
        """Return the number of windows in a pass."""
        return count_windows(len(self.steps), self.bptt)

    def open(self, epoch: int, at: int, hidden: Tensor | None) -> None:
        """Go to window ``at`` of pass ``epoch``, with state ``hidden``."""
        self.epoch, self.at, self.hidden = epoch, at, hidden if at else None

    def next(self) -> tuple[Tensor, Tensor]:
        """Return the tokens (T, B) of the next window and its targets, the tokens one step later.

        After the last window the text begins anew.
        """
        if self.at == len(self):
            self.open(self.epoch + 1, 0, None)
        spare = len(self.steps) - 1 - len(self) * self.bptt
        offset = int(torch.randint(spare + 1, (), generator=generator(self.seed, "offset", self.epoch)))
        start = offset + self.at * self.bptt
        self.at += 1
        return self.steps[start : start + self.bptt], self.steps[start + 1 : start + 1 + self.bptt]


def count_windows(steps: int, bptt: int) -> int:
    """Return the number of windows in a stream of ``steps`` steps; each window also needs the target after it."""
    return (steps - 1) // bptt


@dataclass
class Window:
    """Tokens (T, B) of a stream as a batch.

    ``seed`` is that of its dropout masks; None: no dropout. ``fits``: whether it trains weights, whose loss is
    regularised.
    """

    tokens: Tensor
    stream: Stream
    seed: int | None
    fits: bool


@dataclass
class LanguageObjective:
    """(w, a) → cross-entropy of a window, in nats a word, plus regularisation where weights are trained.

    It starts from the hidden state of the previous window; ``carry`` is the state after its own last evaluation.

    Deviation 2 from DARTS' released code, whose look-ahead leaves out the regularisation that the weights' own steps
    have.
    """

    net: nn.Module
    names: Mapping[str, int]
    own: Tensors
    mix: Callable[[Tensors], Mixes]
    window: Window
    targets: Tensor
    hidden: Tensor | None
    masks: DropoutMasks
    temporal: float
    activation: float
    loss: Tensor = field(init=False, repr=False)
    carry: Tensor = field(init=False, repr=False)

    def __call__(self, w: Tensors, a: Tensors) -> Tensor:
        return self.with_mixtures(w, self.mix(a))

    def with_mixtures(self, w: Tensors, mixes: Mixes) -> Tensor:
        """Return the loss as a function of weights and mixtures."""
        out = forward(self, w, self.window.tokens, mixes, self.hidden, self.masks)
        loss = word_loss(out, self.targets)
        self.loss, self.carry = loss.detach(), out.hidden.detach()
        return loss + regularisation(out, self.temporal, self.activation) if self.window.fits else loss

    def input_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that the loss reads besides weights and logits, by name."""
        hidden = self.net.start(self.targets.shape[1]) if self.hidden is None else self.hidden  # pyright: ignore[reportCallIssue]
        masks = {f"masks.{name}": mask for name, mask in self.masks._asdict().items() if mask is not None}
        return {"tokens": self.window.tokens, "targets": self.targets, "hidden": hidden, **masks}

    def with_inputs(self, mix: Callable[[Tensors], Mixes], tensors: Mapping[str, Tensor]) -> LanguageObjective:
        """Return the same loss of other `input_tensors` and another ``mix``."""
        masks = DropoutMasks(*(tensors.get(f"masks.{name}") for name in DropoutMasks._fields))
        window = replace(self.window, tokens=tensors["tokens"])
        return replace(
            self, mix=mix, window=window, targets=tensors["targets"], hidden=tensors["hidden"], masks=masks
        )  # fmt: skip

    def carried_tensors(self) -> dict[str, Tensor]:
        """Return the `input_tensors` that the next window receives, once the loss was computed."""
        return {"hidden": self.carry} if hasattr(self, "carry") else {}

    def set_carried(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the carried tensors to ``tensors``, which were computed elsewhere."""
        self.carry = tensors["hidden"]

    def add_to(self, meter: WordMeter) -> None:
        """Add the last loss to ``meter``, without regularisation."""
        meter.add_words(self.loss, self.targets.numel())


def word_loss(out: LanguageOutput, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of ``targets`` (T, B), in nats a word."""
    return F.cross_entropy(out.logits.flatten(0, 1), targets.flatten())


def regularisation(out: LanguageOutput, temporal: float, activation: float) -> Tensor | float:
    """Return temporal activation and activation regularisation (1708.01009).

        temporal · mean (raw_t+1 − raw_t)² + activation · mean dropped²

    A window of one step has no temporal change.
    """
    total: Tensor | float = 0.0
    if temporal and len(out.raw) > 1:
        total = temporal * (out.raw[1:] - out.raw[:-1]).square().mean()
    return total + activation * out.dropped.square().mean() if activation else total


class TextBatches:
    """Windows of the training text for the weights, and of the validation text for the architecture, as published.

    A one-level search draws both from the training text. The hidden state passes from window to window of a stream:
    in training it is that of the weights' evaluation, in validation that of the hypergradient (of the look-ahead in
    second order). It is zero where a pass over the text begins, and in validation while the architecture is not
    trained yet.
    """

    meter: type[WordMeter] = WordMeter

    def __init__(self, corpus: Corpus, space: RecurrentSpace, recipe: SearchRecipe, seed: int, engine: Engine) -> None:
        if len(corpus.vocabulary) != space.vocabulary:
            raise OcheError(
                f"the space is one of {space.vocabulary:,} words, and {corpus.name} has {len(corpus.vocabulary):,}: "
                "use space.fit(corpus), or the text that the run began with"
            )
        self.corpus, self.space, self.seed, self.engine = corpus, space, seed, engine
        valid = corpus.train if recipe.method.hypergrad.one_level else corpus.valid
        self.texts = {"train": corpus.train.to(engine.device), "val": valid.to(engine.device)}
        self._streams: dict[str, Stream] = {}
        self._saved: dict[str, Any] = {"epoch": 0, "at": 0, "batch": 0, "hidden": {"train": None, "val": None}}

    @staticmethod
    def check(corpus: Corpus, space: RecurrentSpace, recipe: SearchRecipe) -> None:
        """Raise `OcheError` if the texts are too short for the search."""
        if recipe.batch < 2:
            raise OcheError(f"batch={recipe.batch} gives the cell's BatchNorm nothing to normalise; use batch >= 2")
        for text in (corpus.train,) if recipe.method.hypergrad.one_level else (corpus.train, corpus.valid):
            parallel_streams(
                text, recipe.batch + recipe.method.batch_growth * space.nodes, space.bptt
            )  # its own check, of the most there will be
        recipe.check_epochs(count_windows(len(corpus.train) // recipe.batch, space.bptt))

    def _stream(self, name: str, batch: int, *stream: int | str) -> Stream:
        text = self.texts["val" if name == "val" else "train"]
        return Stream(text, batch, self.space.bptt, derive_seed(self.seed, "text", name, *stream))

    def per_epoch(self, batch: int) -> int:
        """Return the number of windows of ``batch`` streams in the training text."""
        return count_windows(len(self.texts["train"]) // batch, self.space.bptt)

    def begin(self, epoch: int, position: int, batch: int) -> None:
        """Start a pass over the training text at window ``position``, and continue the validation text where it was
        left.
        """
        saved = self._position()
        self._streams = {name: self._stream(name, batch) for name in ("train", "val")}
        self._streams["train"].open(epoch, position, self._placed(saved["hidden"]["train"]))
        if saved["batch"] in (0, batch):
            self._streams["val"].open(saved["epoch"], saved["at"], self._placed(saved["hidden"]["val"]))
        else:  # a position counts windows of the old number of streams
            self._streams["val"].open(saved["epoch"] + 1, 0, None)

    def next_batch(self, name: str, step: int) -> tuple[Window, Tensor]:
        """Return the next window of "train" or "val", with the dropout that belongs to ``step``."""
        return self._window(self._streams[name], derive_seed(self.seed, "dropout", name, step), name == "train")

    def extra_batches(
        self, steps: int, batch: int, *stream: int | str, part: str = "train"
    ) -> Iterator[tuple[Window, Tensor]]:
        """Yield ``steps`` more windows of the text of ``part``, "train" or "val", from its beginning. The search's own
        streams do not move.
        """
        name = "extra" if part == "train" else "val"
        text = self._stream(name, batch, *stream)
        for step in range(steps):
            yield self._window(text, derive_seed(self.seed, "dropout", name, *stream, step), part == "train")

    def probe_batch(self, epoch: int, batch: int) -> tuple[Window, Tensor]:
        """Return a validation window to measure on, without dropout. The search's own stream does not move."""
        text = self._stream("val", batch)
        text.open(epoch, epoch % len(text), None)
        return self._window(text, None, False)

    def _window(self, text: Stream, seed: int | None, fits: bool) -> tuple[Window, Tensor]:
        tokens, targets = text.next()
        return Window(tokens, text, seed, fits), targets

    def objective(
        self, net: Any, names: Mapping[str, int], own: Tensors, mix: Callable[[Tensors], Mixes], x: Window, y: Tensor
    ) -> LanguageObjective:
        """Return the loss of one window. Its dropout masks are drawn once, so all evaluations share them."""
        masks = DropoutMasks()
        if x.seed is not None:
            masks = net.masks(y.shape[1], torch.Generator(y.device).manual_seed(x.seed))
        space = self.space
        return LanguageObjective(net, names, own, mix, x, y, x.stream.hidden, masks, space.temporal, space.activation)

    def carry_state(self, objective: LanguageObjective) -> None:
        """Pass the hidden state to the next window of the stream."""
        objective.window.stream.hidden = objective.carry

    def score(self, net: Any, mixes: Mixes, images: int | None) -> float:
        """Return 1 / perplexity of the supernet under ``mixes`` on the validation text: the geometric mean of the
        right word's probability.

        ``images``: use at most this many rows of windows. BatchNorms normalise by the batch, and there is no dropout.
        Raises `Diverged` if the loss is not finite.
        """
        text = self._stream("val", self._position()["batch"])
        count = len(text) if images is None else min(len(text), -(-images // text.steps.shape[1]))
        meter, before = WordMeter(self.engine.device), net.training
        net.train()
        with torch.no_grad(), frozen_statistics(net):
            for _ in range(count):
                tokens, targets = text.next()
                out = net(tokens, mixes, text.hidden)
                text.hidden = out.hidden
                meter.add_words(word_loss(out, targets), targets.numel())
        net.train(before)
        loss = meter.means()[0]
        check_numbers({"val_loss": loss}, "under a part of the supernet")
        return math.exp(-(loss or math.inf))

    def _placed(self, hidden: Tensor | None) -> Tensor | None:
        return None if hidden is None else hidden.to(self.engine.device)

    def state(self) -> dict[str, Any]:
        """Return the position in the validation text and the hidden states, for a checkpoint.

        The position in the training text follows from the clock.
        """
        return {**self._position(), "vocabulary": self.corpus.vocabulary}

    def _position(self) -> dict[str, Any]:
        if not self._streams:
            return dict(self._saved)
        val = self._streams["val"]
        hidden = {name: text.hidden for name, text in self._streams.items()}
        return {"epoch": val.epoch, "at": val.at, "batch": val.steps.shape[1], "hidden": hidden}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`. Raises `OcheError` for that of another vocabulary."""
        state = dict(state)
        check_vocabulary(self.corpus, state.pop("vocabulary"))
        self._saved, self._streams = dict(state), {}
