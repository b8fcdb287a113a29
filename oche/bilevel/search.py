"""The search loop: weights and architecture trained in turn on two halves of the training set (1806.09055 algorithm 1).

Shapes: B images, E edges of a cell, O candidate operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import nextafter
from typing import Any

import torch
from torch import Tensor

from oche.bilevel.batches import make_batches
from oche.bilevel.collapse import CollapseMonitor
from oche.bilevel.state import SearchState, Truth
from oche.bilevel.upper_loss import UpperLoss
from oche.core.architecture import Genotype, Mix
from oche.core.budget import Clock
from oche.core.errors import OcheError
from oche.core.optimizers import largest_logit_step, load_optimizer
from oche.core.seeds import derive_seed, generator
from oche.devices.engine import Engine
from oche.kernels.choose import plain_form
from oche.methods.curvature import dominant_eigenvalue
from oche.methods.discretize import View
from oche.methods.discretize.successive import random_cell
from oche.methods.hypergradients import SgdStep, Tensors
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.spaces.mixed_ops import set_step
from oche.training.divergence import LOGITS, Diverged, check_tensors
from oche.training.gradient_check import check_search_in_bf16
from oche.training.loop import Record, Session, fit_loop
from oche.training.losses import Objective, frozen_statistics

RECENT = 16  # epochs whose mixtures decisions may look back on


class Search(SearchState):
    """A running search: a `oche.training.loop.Task`, and at the end a `oche.methods.discretize.TrainedSupernet`."""

    title = "search"

    def __init__(
        self,
        space: Space,
        recipe: SearchRecipe,
        data: Any,
        *,
        seed: int,
        engine: Engine,
        truth: Truth = lambda cells: {},
    ) -> None:
        """``data``: a `Dataset`, or a `Corpus` for text. Raises `OcheError` if the recipe cannot search the space."""
        super().__init__(space, recipe, seed=seed, engine=engine, truth=truth)
        method = recipe.method
        self.data, self.feed = data, make_batches(data, space, recipe, seed, self.engine)
        validates = method.hypergrad.moves and not method.hypergrad.one_level
        kinds = ("train", "val") if validates else ("train",)
        self.meters = {name: self.feed.meter(engine.device, engine.processes.all_reduce) for name in kinds}
        self.collapse = CollapseMonitor(method.on_collapse, method.eigenvalue_stop)
        self.epoch = 0  # the current epoch
        self.done = 0  # steps so far
        self.tuned = 0  # rounds of fine-tuning for the final selection
        self.tunes_logits = False  # whether they train the architecture, too

    @property
    def ended(self) -> bool:
        """Whether a collapse has ended the search early."""
        return self.collapse.ended

    # --- one step ---------------------------------------------------------------------------------------------------

    def step(self, step: int, progress: float) -> None:
        """Take one step of the weights and, after the warm-up, of the architecture. ``progress`` is that of the whole search."""
        self._advance(progress)
        self.done = step + 1
        q = self.method.stage_progress(self.stage, progress)
        set_step(self.net, q, derive_seed(self.seed, "edges", step), self.engine.processes.rank)
        noise = self._noise(step)
        inner = self._objective("train", step, noise, q)
        turn = (step + 1) % self.method.arch_every == 0
        # The validation batch is drawn in the warm-up too, so that the data order does not depend on its length.
        outer = self._objective("val", step, noise, q) if turn and "val" in self.meters else None
        self.update(inner, outer, noise, q, self.method.weight_optimizer.rate(q), turn and q >= self.method.warmup)

    def _advance(self, progress: float) -> None:
        """Go on to the stage that ``progress`` has reached."""
        while self.stage + 1 < len(self.method.stages) and progress >= self.method.stage_bounds(self.stage)[1]:
            if (finish := self.method.stages[self.stage].finish) is not None:
                self._narrow({name: finish(view) for name, view in self._views(1.0).items()})
            self.recent = {name: [] for name in self.groups}
            self.at_start = self.alive
            self.collapse.reset()
            self._build(self.stage + 1)

    def update(
        self,
        inner: Objective,
        outer: Objective | None,
        noise: Mapping[str, Tensor | None],
        progress: float,
        rate: float,
        moves: bool,
        step: int | None = None,
    ) -> None:
        """Take the step for batches and noise that are drawn already.

        ``progress`` is that of the stage, ``rate`` the learning rate of the weights; ``moves``: whether the architecture
        moves in this step. ``step`` numbers the draws of a perturbation; by default the number of the last step.
        """
        if self.method.hypergrad.one_level:
            self._step_weights(inner, self.weights + self.logits if moves else self.weights, rate)
            if moves:
                self._step_logits(noise, progress)
            return
        if outer is not None and moves:
            self._compute_hypergradient(inner, outer, progress, rate)
            self._step_logits(noise, progress)
        drawn = self.done - 1 if step is None else step
        self._step_weights(inner, self.weights, rate, self._perturbed(inner, drawn, progress))

    def _compute_hypergradient(self, inner: Objective, outer: Objective, progress: float, rate: float) -> None:
        """Set the gradients of the logits to the hypergradient."""
        upper = UpperLoss(self, outer, progress, self.done)
        with frozen_statistics(self.net):
            gradients = self.method.hypergrad(inner, upper, self.weights, self.logits, self._look_ahead(rate))
        for logits, gradient in zip(self.logits, gradients, strict=True):
            logits.grad = gradient
        outer.add_to(self.meters["val"])
        self.feed.carry_state(outer)

    def _step_logits(self, noise: Mapping[str, Tensor | None], progress: float) -> None:
        """Take one step of the architecture on its gradient and that of the penalty, then the step of the cost constraint.

        The penalty is a function of the architecture alone.
        """
        if self.regulariser is not None:
            mixes = self.mixes(self.logits, noise, progress)
            groups = [(a, self.alive[name], mixes[name]) for name, a in zip(self.groups, self.logits, strict=True)]
            self.regulariser.over(groups, progress).backward(inputs=list(self.logits))
        before = [a.detach().clone() for a in self.logits] if self.method.relax.settles else []
        self.a_opt.step()
        if before:
            self._settle(before, noise)
        if self.cost_constraint is not None:
            self.cost_constraint.step(self.logits, self.alive.values(), progress, largest_logit_step(self.a_opt))

    def _settle(self, before: list[Tensor], noise: Mapping[str, Tensor | None]) -> None:
        """Let the relaxation change the logits after a step from ``before``. Without noise, as in fine-tuning, it does not."""
        for name, old, logits in zip(self.groups, before, self.logits, strict=True):
            if (drawn := noise[name]) is not None:
                with torch.no_grad():
                    logits.copy_(self.method.relax.settle(old, logits, self.alive[name], drawn))

    def _perturbed(self, inner: Objective, step: int, progress: float) -> dict[str, Mix] | None:
        """Return the mixtures that the weights train under, or None if they are the architecture's own."""
        if (perturb := self.method.perturb) is None:
            return None
        with frozen_statistics(self.net):
            mixes = inner.mix(self.logits)
            return perturb(
                partial(inner.with_mixtures, self.weights), mixes, progress, generator(self.seed, "perturbation", step)
            )

    def _step_weights(self, inner: Objective, of: Tensors, rate: float, mixes: dict[str, Mix] | None = None) -> None:
        """Take one step of the weights, under ``mixes`` if given. Sets the gradients of all tensors in ``of``."""
        for t in of:
            t.grad = None
        loss = inner(self.weights, self.logits) if mixes is None else inner.with_mixtures(self.weights, mixes)
        loss.backward(inputs=list(of))
        self.method.weight_optimizer.update(self.w_opt, list(self.weights), rate)
        inner.add_to(self.meters["train"])
        self.feed.carry_state(inner)

    def _look_ahead(self, rate: float) -> SgdStep:
        """Return the step that the weights would take now. For images it does not clip, as in the published code."""
        buffers = [self.w_opt.state[w].get("momentum_buffer") for w in self.weights]
        sgd = self.method.weight_optimizer
        return SgdStep(rate, sgd.momentum, sgd.decay, buffers, sgd.clip if sgd.clip_ahead else 0.0)

    def _noise(self, step: int) -> dict[str, Tensor | None]:
        """Return the noise of a step. All evaluations in it share the draw, so that they differ only by (w, a)."""
        return self.draw_noise("noise", step)

    # --- data -------------------------------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Images in a batch. It grows with the number of settled edges if the method has ``batch_growth`` (SGAS)."""
        settled = max(int((alive.sum(1) == 1).sum()) for alive in self.alive.values())
        return self.recipe.batch + self.method.batch_growth * settled

    def per_epoch(self) -> int:
        """Return the number of steps in an epoch."""
        return self.feed.per_epoch(self.batch)

    def begin(self, epoch: int, position: int) -> None:
        """Start ``epoch`` at step ``position``."""
        self.epoch = epoch
        self.feed.begin(epoch, position, self.batch)

    def rate(self, progress: float) -> float:
        """Return the learning rate of the weights at ``progress`` of the whole search."""
        return self.method.weight_optimizer.rate(self.method.stage_progress(self.stage, progress))

    def try_batch(self, batch: int) -> None:
        """Take one step on ``batch`` images, to see whether it fits into memory. The search cannot go on after it."""
        self.feed.begin(0, 0, batch)
        step = max(self.done, self.method.arch_every - 1)  # one that moves the architecture, too
        self.step(step, nextafter(self.method.stage_bounds(self.stage)[1], 0.0))

    def _objective(self, name: str, step: int, noise: dict[str, Tensor | None], progress: float) -> Objective:
        x, y = self.feed.next_batch(name, step)
        return self._loss(x, y, noise, progress, name == "train")

    def _loss(self, x: Any, y: Tensor, noise: dict[str, Tensor | None], progress: float, trains: bool = False) -> Any:
        """Return the `Objective` of a batch (x, y). ``trains``: under the mixtures that weights train under."""
        mix = partial(self.weight_mixes if trains else self.mixes, noise=noise, progress=progress)
        return self.feed.objective(self.net, self.names, self.weights, mix, x, y)

    # --- the end of an epoch ----------------------------------------------------------------------------------------

    def initial(self) -> Record | None:
        """Return the record of the architecture before the first step."""
        self._check_agreement()
        return self._record(0.0)

    def report(self, progress: float) -> Record:
        """Settle part of the architecture, check for collapse, and return the record of the epoch."""
        self._check_agreement()
        q = self.method.stage_progress(self.stage, progress)
        self._decide(q)
        record, every = self._record(q), self.method.hessian_every
        if every and (self.epoch + 1) % every == 0:
            record["eigenvalue"] = self._eigenvalue(q)
        said, before = self.collapse.update(self.epoch + 1, record)
        if before is not None:
            self._set_logits({name: torch.tensor(values) for name, values in before["logits"].items()})
        return record | ({"collapse": said} if said else {})

    def _check_agreement(self) -> None:
        """Raise `OcheError` if processes have different architectures; their averaged gradients would belong to none."""
        tensors = [*(a.detach() for a in self.logits), *self.alive.values()]
        found = b"".join(t.cpu().numpy().tobytes() for t in tensors)
        self.engine.processes.check_agreement(f"the architecture after {self.done} steps", found)

    def _decide(self, progress: float) -> None:
        """Remember the mixtures of the epoch, as if nothing was decided, and let the method settle part of the architecture."""
        for name, mix in self.undecided(progress).items():
            self.recent[name] = [*self.recent[name], mix.ops.cpu()][-RECENT:]
        if (decide := self.method.decide) is not None:
            self._narrow({name: decide(view) for name, view in self._views(progress).items()})

    def _eigenvalue(self, progress: float) -> float:
        """Return the dominant eigenvalue of the Hessian of the validation loss with respect to the logits (RobustDARTS).

        It is measured on one batch, without noise. Raises `Diverged` if the loss or its derivatives are not finite.
        """
        set_step(self.net, progress, None)
        noise: dict[str, Tensor | None] = dict.fromkeys(self.groups)
        x, y = self.feed.probe_batch(self.epoch, self.batch)
        loss = self._loss(x, y, noise, progress)
        try:
            with frozen_statistics(self.net), plain_form(self.net):
                return dominant_eigenvalue(lambda a: loss(self.weights, a), self.logits)
        except OcheError as error:
            raise Diverged(
                f"the eigenvalue after step {self.done} (epoch {self.epoch + 1}): {error}", self.done
            ) from None

    # --- the final selection ----------------------------------------------------------------------------------------

    def conclude(self) -> Genotype:
        """Return the cells chosen at the end. A selection that evaluates the supernet does so now, and may fine-tune it.

        Raises `Diverged` if that leaves weights or logits that are not finite.
        """
        if not self.method.select.asks_supernet:
            return self.genotype()
        set_step(self.net, 1.0, None)
        self.method.select.conclude(self)
        check_tensors(self.tensors(), "after the selection of the cell", self.done)
        return self.space.read(self.alive)

    def view(self, group: str) -> View:
        """Return the view of one group, with the means to evaluate and fine-tune the supernet."""
        return replace(
            self._view(group, 1.0),
            evaluate=lambda alive: self.accuracy({**self.alive, group: alive}),
            tune=partial(self._tune, group),
            generator=generator(self.seed, "selection", group),
        )

    def narrow(self, group: str, alive: Tensor) -> None:
        """Set the mask (E, O) of one group."""
        self._narrow({**self.alive, group: alive})

    def random(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return masks (E, O) of an architecture drawn uniformly from the living candidates."""
        return {name: random_cell(self._view(name, 1.0).usable, dag, generator) for name, dag in self.groups.items()}

    def accuracy(self, alive: dict[str, Tensor], images: int | None = None) -> float:
        """Return the validation accuracy, in [0, 1], under masks of all groups; on ``images`` images, or on all.

        If the method penalises a cost, the penalty is subtracted. (MnasNet, 1807.11626, multiplies by such a term.)
        """
        kept, self.alive = self.alive, alive
        mixes, self.alive = self.settled(), kept
        penalty = 0.0
        if self.cost_constraint is not None:
            penalty = self.cost_constraint.excess(zip(self.logits, alive.values(), strict=True), 1.0)
        return self.feed.score(self.net, mixes, images) - penalty

    def begin_tuning(self, logits: bool, restart: bool) -> None:
        """Say how `_tune` trains: ``logits`` as well as weights; ``restart``: with a new optimizer of the weights."""
        self.tunes_logits = logits and self.method.hypergrad.moves
        if restart:
            self.w_opt = self.method.weight_optimizer.optimizer(self.weights)

    def _tune(self, group: str, alive: Tensor) -> None:
        """Train under the mask ``alive`` (E, O) of ``group``, the weights at a tenth of their first learning rate.

        The architecture moves too if `begin_tuning` said so: by the steps of the search, without noise.
        """
        self.narrow(group, alive)
        noise: dict[str, Tensor | None] = dict.fromkeys(self.groups)
        rate = self.method.weight_optimizer.lr / 10
        self.tuned += 1
        steps = max(1, round(self.method.finetune_share * self.done))
        train = self.feed.extra_batches(steps, self.batch, "tune", self.tuned)
        if not self.tunes_logits:
            for x, y in train:
                self._step_weights(self._loss(x, y, noise, 1.0), self.weights, rate)
            return
        val = self.feed.extra_batches(steps, self.batch, "tune", self.tuned, part="val")
        first = self.done + (self.tuned - 1) * steps
        for step, ((x, y), (x_val, y_val)) in enumerate(zip(train, val, strict=True), first):
            inner, outer = self._loss(x, y, noise, 1.0), self._loss(x_val, y_val, noise, 1.0)
            Search.update(self, inner, outer, noise, 1.0, rate, moves=True, step=step)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, statistics and logits, which must be finite."""
        logits = {f"{LOGITS}{name}": a.detach() for name, a in zip(self.groups, self.logits, strict=True)}
        return {**self.net.state_dict(), **logits}

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "net": self.net.state_dict(),
            "w_opt": self.w_opt.state_dict(),
            "a_opt": self.a_opt.state_dict(),
            "logits": {name: a.detach() for name, a in zip(self.groups, self.logits, strict=True)},
            "alive": self.alive,
            "at_start": self.at_start,
            "stage": self.stage,
            "recent": self.recent,
            "feed": self.feed.state(),
            "done": self.done,
            "watch": self.collapse.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._narrow(dict(state["alive"]))
        self.at_start = dict(state.get("at_start", self.at_start))  # checkpoints of earlier versions have none
        self.recent, self.done = dict(state["recent"]), state["done"]
        self.collapse.load(state["watch"])
        self.feed.load(state["feed"])
        if state["stage"] != self.stage:
            self._build(state["stage"])
        self.net.load_state_dict(state["net"])
        load_optimizer(self.w_opt, state["w_opt"])
        load_optimizer(self.a_opt, state["a_opt"])
        self._set_logits(state["logits"])


def search(
    space: Space,
    recipe: SearchRecipe,
    data: Any,
    *,
    seed: int,
    engine: Engine,
    session: Session,
    before: Callable[[Search], None] = lambda task: None,
    truth: Truth = lambda cells: {},
) -> tuple[Search, Clock]:
    """Search ``space`` by ``recipe`` on ``data`` from where ``session`` left it. Return the search and its clock.

    ``data``: a `Dataset`, or a `Corpus` for text. ``before`` is called with the search before its first step. ``truth``
    returns the known accuracies of cells, which are recorded with the cells that would be chosen. Raises `OcheError` if
    the recipe cannot search the space, and what `oche.training.loop.fit_loop` raises.
    """
    task = Search(space, recipe, data, seed=seed, engine=engine, truth=truth)
    before(task)
    with engine.using_threads():
        with engine.processes.raise_together():
            check_search_in_bf16(space, recipe, engine)
        return task, fit_loop(task, recipe.length, session)
