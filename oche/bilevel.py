"""The search: weights and architecture trained in turn on disjoint halves of the training set (1806.09055 algorithm 1).

Shapes: B images, E edges of a cell, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .arch import Dag, Genotype, Mix, all_alive
from .data import Augment, Dataset, Split, batches, halves, prepare, steps_per_epoch
from .decide import Decide, TopK, View
from .errors import OcheError
from .hypergrad import HyperGradient, SgdStep, Tensors, first_order
from .loop import Budget, Clock, Meter, Record, Session, drive
from .optim import Adam, Sgd
from .registry import component
from .relax import Relaxation, Softmax
from .run.engine import Engine
from .seeds import fold, generator
from .spaces.conv import ConvSpace


@component
@dataclass(frozen=True)
class Method:
    """A search method: a composition of small values. Defaults are DARTS' (first order), recipe of 1806.09055 §3.1.1."""

    relax: Relaxation = Softmax()
    """from logits to a mixture"""
    hypergrad: HyperGradient = first_order
    """gradient of the upper problem: joint, first_order, FiniteDifference, exact, Neumann"""
    select: Decide = TopK()
    """how the final cells are read off"""
    w: Sgd = Sgd(lr_min=0.001)
    """optimiser of network weights"""
    a: Adam = Adam()
    """optimiser of architecture logits"""
    batch: int = 64
    """images in a batch, of training and of validation"""
    epochs: int = 50
    """passes over the training half"""
    steps: int | None = None
    """length in steps instead of epochs"""
    budget: str | None = None
    """length in time instead of epochs: 90s, 10m, 1h30m"""
    warmup: float = 0.0
    """share of the search that trains weights only, before the architecture moves"""
    split: float = 0.5
    """share of the training set that trains weights; the rest validates the architecture"""
    pad: int | None = None
    """random crops after padding by this many pixels; by default what suits the data"""
    flip: bool | None = None
    """random horizontal flips; by default what suits the data"""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise OcheError(
                f"warmup={self.warmup} leaves none of the search to train the architecture; use 0 <= warmup < 1"
            )
        if not 0 < self.split < 1:
            raise OcheError(f"split={self.split} leaves one half empty; use 0 < split < 1, published: 0.5")
        if self.batch < 1 or (self.pad or 0) < 0:
            raise OcheError(f"batch={self.batch}, pad={self.pad} cannot train; use batch >= 1, pad >= 0")
        _ = self.length  # its own checks

    @property
    def length(self) -> Budget:
        return Budget.of(self.epochs, self.steps, self.budget)


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Within, BatchNorms in training mode normalise by the batch without moving their running statistics.

    Deviation 1 from the published code, whose architecture steps move them too: they belong to the weights.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for m in norms:
        m.track_running_stats = False
    try:
        yield
    finally:
        for m in norms:
            m.track_running_stats = True


class Objective:
    """(w, a) → cross-entropy of one batch: images, labels and the relaxation's noise. ``logits`` are those last computed."""

    logits: Tensor

    def __init__(
        self, search: Search, images: Tensor, labels: Tensor, noise: dict[str, Tensor | None], progress: float
    ):
        self.search, self.images, self.labels, self.noise, self.progress = search, images, labels, noise, progress

    def __call__(self, w: Tensors, a: Tensors) -> Tensor:
        mixes = self.search.mixes(a, self.noise, self.progress)
        if w is self.search.weights:
            logits = self.search.net(self.images, mixes)
        else:
            named = dict(zip(self.search.names, w, strict=True))
            logits = functional_call(self.search.net, named, (self.images, mixes))
        self.logits = logits.detach()
        return F.cross_entropy(logits, self.labels)


class Search:
    """A search under way: supernet, logits, masks and optimisers. A `oche.loop.Task`."""

    def __init__(self, space: ConvSpace, method: Method, data: Dataset, *, seed: int, engine: Engine) -> None:
        self.space, self.method, self.data, self.seed, self.engine = space, method, data, seed, engine
        self.title = "search"
        self.augment = _augment(data.augment, method.pad, method.flip)
        with engine.seeded(fold(seed, "weights")):
            self.net = engine.place(space.supernet())
        self.names = [name for name, _ in self.net.named_parameters()]
        self.weights: Tensors = tuple(self.net.parameters())
        self.groups: dict[str, Dag] = space.groups
        self.alive = {name: all_alive(dag, len(space.candidates)) for name, dag in self.groups.items()}
        self.logits: Tensors = tuple(self._init(name, dag) for name, dag in self.groups.items())
        self.w_opt, self.a_opt = method.w.optimizer(self.weights), method.a.optimizer(self.logits)
        self.train_split, self.val_split = self._splits()
        one_level = method.hypergrad.one_level
        self.meters = {name: Meter(engine.device) for name in (("train",) if one_level else ("train", "val"))}
        self._streams: dict[str, Iterator[tuple[Tensor, Tensor]]] = {}

    def _init(self, name: str, dag: Dag) -> Tensor:
        g = generator(self.seed, "logits", name)
        logits = self.method.relax.init(dag, len(self.space.candidates), self.method.a.init, g)
        dtype = torch.promote_types(
            self.engine.dtype, torch.float32
        )  # few numbers, and small steps: never below float32
        return logits.to(self.engine.device, dtype).requires_grad_()

    def _splits(self) -> tuple[Split, Split]:
        """Training and validation parts. One-level search trains everything on the whole training set."""
        if self.method.hypergrad.one_level:
            return (whole := self.data.train.to(self.engine.device)), whole
        train, val = halves(self.data.train, self.method.split, fold(self.seed, "halves"))
        return train.to(self.engine.device), val.to(self.engine.device)

    # --- one step ---------------------------------------------------------------------------------------------------

    def mixes(self, a: Tensors, noise: Mapping[str, Tensor | None], progress: float) -> dict[str, Mix]:
        """The mixture of every group of edges for logits ``a``."""
        relax = self.method.relax
        return {
            name: relax(logits, self.alive[name], dag, noise[name], progress)
            for (name, dag), logits in zip(self.groups.items(), a, strict=True)
        }

    def step(self, step: int, progress: float) -> None:
        noise = self._noise(step)
        inner = self._objective("train", step, noise, progress)
        rate = self.method.w.rate(progress)
        moves = progress >= self.method.warmup
        if self.method.hypergrad.one_level:
            self._descend(inner, self.weights + self.logits if moves else self.weights, rate)
            if moves:
                self.a_opt.step()
            return
        # The validation batch is drawn in the warm-up too, so that the data order does not depend on its length.
        outer = self._objective("val", step, noise, progress)
        if moves:
            self._ascend(inner, outer, rate)
        self._descend(inner, self.weights, rate)

    def _ascend(self, inner: Objective, outer: Objective, rate: float) -> None:
        """One step of the architecture on the hypergradient."""
        with frozen_statistics(self.net):
            gradients = self.method.hypergrad(inner, outer, self.weights, self.logits, self._look_ahead(rate))
        for logits, gradient in zip(self.logits, gradients, strict=True):
            logits.grad = gradient
        self.a_opt.step()
        self.meters["val"].add(outer.logits, outer.labels, F.cross_entropy(outer.logits, outer.labels))

    def _descend(self, inner: Objective, of: Tensors, rate: float) -> None:
        """One step of the weights; fills the gradients of everything in ``of``."""
        for t in of:
            t.grad = None
        loss = inner(self.weights, self.logits)
        loss.backward(inputs=list(of))
        self.method.w.update(self.w_opt, list(self.weights), rate)
        self.meters["train"].add(inner.logits, inner.labels, loss)

    def _look_ahead(self, rate: float) -> SgdStep:
        """The step that the weights would take from here, clipping apart (as in the published code)."""
        buffers = [self.w_opt.state[w].get("momentum_buffer") for w in self.weights]
        return SgdStep(rate, self.method.w.momentum, self.method.w.decay, buffers)

    def _noise(self, step: int) -> dict[str, Tensor | None]:
        """One draw a step, shared by all evaluations of it, so that differences between them are differences in (w, a)."""
        count = len(self.space.candidates)
        drawn = {
            name: self.method.relax.noise(dag, count, generator(self.seed, "noise", name, step))
            for name, dag in self.groups.items()
        }
        return {name: None if n is None else n.to(self.engine.device) for name, n in drawn.items()}

    # --- data -------------------------------------------------------------------------------------------------------

    def per_epoch(self) -> int:
        return steps_per_epoch(len(self.train_split), self.method.batch)

    def begin(self, epoch: int, position: int) -> None:
        self._streams["train"] = self._batches("train", self.train_split, epoch, position)
        self._streams["val"] = self._endless(epoch * self.per_epoch() + position)

    def _batches(self, name: str, split: Split, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(split, self.method.batch, seed=fold(self.seed, "order", name), epoch=epoch, start=start)

    def _endless(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Validation batches from global ``step`` on; the validation half has epochs of its own length.

        Deviation 2 from the published code, which takes the first batch of a new shuffle every time.
        """
        epoch, start = divmod(step, steps_per_epoch(len(self.val_split), self.method.batch))
        while True:
            yield from self._batches("val", self.val_split, epoch, start)
            epoch, start = epoch + 1, 0

    def _objective(self, name: str, step: int, noise: dict[str, Tensor | None], progress: float) -> Objective:
        images, labels = next(self._streams[name])
        g = generator(self.seed, "augment", name, step, device=images.device)
        x = prepare(images, self.data.mean, self.data.std, self.augment, g)
        return Objective(self, self.engine.images(x), labels.to(x.device), noise, progress)

    # --- what it found ----------------------------------------------------------------------------------------------

    def settled(self, progress: float = 1.0) -> dict[str, Mix]:
        """The noise-free mixtures as they stand."""
        with torch.no_grad():
            return self.mixes(self.logits, dict.fromkeys(self.groups), progress)

    def genotype(self, progress: float = 1.0) -> Genotype:
        """The cells that would be chosen now."""
        mixes = self.settled(progress)
        views = {
            name: View(name, dag, self.space.candidates, self.alive[name], mixes[name], progress)
            for name, dag in self.groups.items()
        }
        return self.space.read({name: self.method.select(view) for name, view in views.items()})

    def initial(self) -> Record | None:
        return self.report(0.0)

    def report(self, progress: float) -> Record:
        genotype, mixes = self.genotype(progress), self.settled(progress)
        arch = {
            name: {"weights": mix.ops.tolist(), "edges": None if mix.edges is None else mix.edges.tolist()}
            for name, mix in mixes.items()
        }
        return {
            "w_lr": self.method.w.rate(progress),
            "arch": arch,
            "logits": {name: a.tolist() for name, a in zip(self.groups, self.logits, strict=True)},
            "entropy": {name: _entropy(mix.ops) for name, mix in mixes.items()},
            "skip_share": {name: cell.share("skip_connect") for name, cell in genotype.cells.items()},
            "genotype": str(genotype),
        }

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "w_opt": self.w_opt.state_dict(),
            "a_opt": self.a_opt.state_dict(),
            "logits": {name: a.detach() for name, a in zip(self.groups, self.logits, strict=True)},
            "alive": self.alive,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.w_opt.load_state_dict(state["w_opt"])
        self.a_opt.load_state_dict(state["a_opt"])
        with torch.no_grad():
            for name, logits in zip(self.groups, self.logits, strict=True):
                logits.copy_(state["logits"][name])
        self.alive = dict(state["alive"])


def _entropy(weights: Tensor) -> float:
    """Mean entropy of the rows of ``weights`` (E, O), in nats; rows need not sum to 1."""
    p = weights.double() / weights.double().sum(1, keepdim=True).clamp_min(1e-300)
    return float(torch.special.entr(p).sum(1).mean())


def _augment(default: Augment, pad: int | None, flip: bool | None) -> Augment:
    return Augment(
        pad=default.pad if pad is None else pad,
        flip=default.flip if flip is None else flip,
        cutout=0,
    )


def search(
    space: ConvSpace,
    method: Method,
    data: Dataset,
    *,
    seed: int,
    engine: Engine,
    session: Session,
    before: Callable[[Search], None] = lambda task: None,
) -> tuple[Search, Clock]:
    """Runs ``method`` on ``space`` and ``data`` from wherever ``session`` left it; returns the search and its clock.

    ``before`` is shown the search as it stands ready, before its first step.
    """
    task = Search(space, method, data, seed=seed, engine=engine)
    before(task)
    with engine.running():
        return task, drive(task, method.length, session)
