"""The search: weights and architecture trained in turn on disjoint halves of the training set (1806.09055 algorithm 1).

Shapes: B images, E edges of a cell, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import nextafter
from typing import Any

import torch
from torch import Tensor, nn

from oche.bilevel.batches import feed
from oche.bilevel.collapse import CollapseMonitor
from oche.core.architecture import Dag, Genotype, Mix, all_alive
from oche.core.budget import Clock
from oche.core.optimizers import largest_logit_step
from oche.core.seeds import derive_seed, generator
from oche.devices.engine import Engine
from oche.devices.mixed_precision import apply_precision, with_precision
from oche.kernels.choose import plain_form
from oche.methods.curvature import dominant_eigenvalue
from oche.methods.discretize import TopK, View
from oche.methods.discretize.successive import draw
from oche.methods.hypergradients import SgdStep, Tensors
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.spaces.mixed_ops import set_step
from oche.training.gradient_check import check_search_in_bf16
from oche.training.loop import Record, Session, fit_loop
from oche.training.losses import Objective, frozen_statistics, names
from oche.training.recipes import space_at_recipe_size

Truth = Callable[[Genotype], Record]
RECENT = 16  # epochs whose mixtures decisions may look back on


class Search:
    """A search under way: supernet, logits, masks and optimisers. A `oche.training.loop.Task`."""

    net: nn.Module
    logits: Tensors
    computes: str
    """in which form the supernet computes, and why"""

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
        recipe.check(space)
        method = recipe.method
        self.truth = truth
        self.space, self.recipe, self.method, self.data, self.seed = space, recipe, method, data, seed
        self.engine = with_precision(engine, recipe.precision)
        self.regulariser, resource = method.regulariser, method.resource
        self.priced = (
            None
            if resource is None
            else resource.within(
                space_at_recipe_size(space, recipe.cost_recipe or space.recipe),
                method.relax,
                recipe.cost_target,
                engine,
            )
        )
        self.title = "search"
        self.groups: dict[str, Dag] = space.groups
        self.alive = {name: all_alive(dag, len(space.candidates)) for name, dag in self.groups.items()}
        self.recent: dict[str, list[Tensor]] = {name: [] for name in self.groups}
        self.feed = feed(data, space, recipe, seed, self.engine)
        validates = method.hypergrad.moves and not method.hypergrad.one_level
        kinds = ("train", "val") if validates else ("train",)
        self.meters = {name: self.feed.meter(engine.device, engine.processes.all_reduce) for name in kinds}
        self.collapse = CollapseMonitor(method.on_collapse, method.eigenvalue_stop)
        self.epoch, self.done, self.tuned = 0, 0, 0  # the one under way; steps; rounds of training for its selection
        self._build(0)

    @property
    def ended(self) -> bool:
        """Whether signs of collapse have ended it early."""
        return self.collapse.ended

    # --- stages -----------------------------------------------------------------------------------------------------

    def _build(self, stage: int) -> None:
        """Supernet, logits and optimisers of a stage; of the one before it only the mask remains."""
        self.stage, part = stage, self.method.stages[stage]
        seed = derive_seed(self.seed, "stage", stage) if stage else self.seed
        with self.engine.seeded(derive_seed(seed, "weights")):
            self.net = self.engine.place(part.of(self.space).supernet(part.edge or self.method.edge))
        twice, precision = self.method.hypergrad.twice, self.recipe.precision
        self.computes = apply_precision(self.engine, self.net, precision, twice=twice)
        self.names = names(self.net)
        self.weights: Tensors = tuple(self.net.parameters())
        self.logits = tuple(self._init(name, dag, seed) for name, dag in self.groups.items())
        self.w_opt = self.method.weight_optimizer.optimizer(self.weights)
        self.a_opt = self.method.arch_optimizer.optimizer(self.logits)
        self._tell_simplices()

    def _init(self, name: str, dag: Dag, seed: int) -> Tensor:
        g = generator(seed, "logits", name)
        logits = self.method.relax.init(dag, len(self.space.candidates), self.method.arch_optimizer.init, g)
        # Few numbers, and small steps: never below float32.
        dtype = torch.promote_types(self.engine.dtype, torch.float32)
        return logits.to(self.engine.device, dtype).requires_grad_()

    def _advance(self, progress: float) -> None:
        """Goes on to the stages that ``progress`` has reached."""
        while self.stage + 1 < len(self.method.stages) and progress >= self.method.bounds(self.stage)[1]:
            if (finish := self.method.stages[self.stage].finish) is not None:
                self._narrow({name: finish(view) for name, view in self._views(1.0).items()})
            self.recent = {name: [] for name in self.groups}
            self.collapse.reset()
            self._build(self.stage + 1)

    def _narrow(self, alive: dict[str, Tensor]) -> None:
        self.alive = alive
        self._tell_simplices()

    def _tell_simplices(self) -> None:
        """Which weights sum to one, for an optimiser that moves on simplices; Adam does not look."""
        found = [self.method.relax.simplices(self.alive[name], dag) for name, dag in self.groups.items()]
        if all(simplex is not None for simplex in found):
            self.a_opt.param_groups[0]["simplices"] = found

    # --- one step ---------------------------------------------------------------------------------------------------

    def mixes(self, a: Tensors, noise: Mapping[str, Tensor | None], progress: float) -> dict[str, Mix]:
        """The mixture of every group of edges for logits ``a``; ``progress`` is that of the stage."""
        relax = self.method.relax
        return {
            name: relax(logits, self.alive[name], dag, noise[name], progress)
            for (name, dag), logits in zip(self.groups.items(), a, strict=True)
        }

    def step(self, step: int, progress: float) -> None:
        self._advance(progress)
        self.done = step + 1
        q = self.method.within(self.stage, progress)
        set_step(self.net, q, derive_seed(self.seed, "edges", step), self.engine.processes.rank)
        noise = self._noise(step)
        inner = self._objective("train", step, noise, q)
        # The validation batch is drawn in the warm-up too, so that the data order does not depend on its length.
        outer = self._objective("val", step, noise, q) if "val" in self.meters else None
        self.update(inner, outer, noise, q, self.method.weight_optimizer.rate(q), q >= self.method.warmup)

    def update(
        self,
        inner: Objective,
        outer: Objective | None,
        noise: Mapping[str, Tensor | None],
        progress: float,
        rate: float,
        moves: bool,
    ) -> None:
        """What a step does once its batches and noise are drawn; whether the architecture ``moves`` in it too."""
        if self.method.hypergrad.one_level:
            self._descend(inner, self.weights + self.logits if moves else self.weights, rate)
            if moves:
                self._step_logits(noise, progress)
            return
        if outer is not None and moves:
            self._ascend(inner, outer, rate)
            self._step_logits(noise, progress)
        self._descend(inner, self.weights, rate, self._perturbed(inner, self.done - 1, progress))

    def _ascend(self, inner: Objective, outer: Objective, rate: float) -> None:
        """The hypergradient, as the gradient of the logits."""
        with frozen_statistics(self.net):
            gradients = self.method.hypergrad(inner, outer, self.weights, self.logits, self._look_ahead(rate))
        for logits, gradient in zip(self.logits, gradients, strict=True):
            logits.grad = gradient
        outer.add_to(self.meters["val"])
        self.feed.carry_state(outer)

    def _step_logits(self, noise: Mapping[str, Tensor | None], progress: float) -> None:
        """One step of the architecture on its gradient and that of its penalty, in which the weights play no part."""
        if self.regulariser is not None:
            mixes = self.mixes(self.logits, noise, progress)
            groups = [(a, self.alive[name], mixes[name]) for name, a in zip(self.groups, self.logits, strict=True)]
            self.regulariser.over(groups, progress).backward(inputs=list(self.logits))
        self.a_opt.step()
        if self.priced is not None:
            self.priced.step(self.logits, self.alive.values(), progress, largest_logit_step(self.a_opt))

    def _perturbed(self, inner: Objective, step: int, progress: float) -> dict[str, Mix] | None:
        """The mixtures that the weights train under, where they are not the architecture's own."""
        if (perturb := self.method.perturb) is None:
            return None
        with frozen_statistics(self.net):
            mixes = inner.mix(self.logits)
            return perturb(
                partial(inner.with_mixtures, self.weights), mixes, progress, generator(self.seed, "perturbation", step)
            )

    def _descend(self, inner: Objective, of: Tensors, rate: float, mixes: dict[str, Mix] | None = None) -> None:
        """One step of the weights, under ``mixes`` if given; fills the gradients of everything in ``of``."""
        for t in of:
            t.grad = None
        loss = inner(self.weights, self.logits) if mixes is None else inner.with_mixtures(self.weights, mixes)
        loss.backward(inputs=list(of))
        self.method.weight_optimizer.update(self.w_opt, list(self.weights), rate)
        inner.add_to(self.meters["train"])
        self.feed.carry_state(inner)

    def _look_ahead(self, rate: float) -> SgdStep:
        """The step that the weights would take from here; of images clipping apart (as in the published code)."""
        buffers = [self.w_opt.state[w].get("momentum_buffer") for w in self.weights]
        sgd = self.method.weight_optimizer
        return SgdStep(rate, sgd.momentum, sgd.decay, buffers, sgd.clip if sgd.clip_ahead else 0.0)

    def _noise(self, step: int) -> dict[str, Tensor | None]:
        """One draw a step, shared by all evaluations of it, so that differences between them are differences in (w, a)."""
        count = len(self.space.candidates)
        drawn = {
            name: self.method.relax.noise(dag, count, generator(self.seed, "noise", name, step))
            for name, dag in self.groups.items()
        }
        return {name: None if n is None else n.to(self.engine.device) for name, n in drawn.items()}

    # --- data -------------------------------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Images in a batch: more of them the more edges are settled, where the method says so (SGAS)."""
        settled = max(int((alive.sum(1) == 1).sum()) for alive in self.alive.values())
        return self.recipe.batch + self.method.batch_growth * settled

    def per_epoch(self) -> int:
        return self.feed.per_epoch(self.batch)

    def begin(self, epoch: int, position: int) -> None:
        self.epoch = epoch
        self.feed.begin(epoch, position, self.batch)

    def rate(self, progress: float) -> float:
        """Learning rate of the weights in a step at ``progress`` of the whole search."""
        return self.method.weight_optimizer.rate(self.method.within(self.stage, progress))

    def try_batch(self, batch: int) -> None:
        """One step of weights and architecture on ``batch`` images, to see whether that fits; nothing is to follow it."""
        self.feed.begin(0, 0, batch)
        self.step(self.done, nextafter(self.method.bounds(self.stage)[1], 0.0))

    def _objective(self, name: str, step: int, noise: dict[str, Tensor | None], progress: float) -> Objective:
        x, y = self.feed.next_batch(name, step)
        return self._loss(x, y, noise, progress)

    def _loss(self, x: Any, y: Tensor, noise: dict[str, Tensor | None], progress: float) -> Any:
        """The `Objective` of a batch (x, y) of the feed."""
        mix = partial(self.mixes, noise=noise, progress=progress)
        return self.feed.objective(self.net, self.names, self.weights, mix, x, y)

    # --- what it found ----------------------------------------------------------------------------------------------

    def settled(self, progress: float = 1.0) -> dict[str, Mix]:
        """The noise-free mixtures as they stand."""
        with torch.no_grad():
            return self.mixes(self.logits, dict.fromkeys(self.groups), progress)

    def _views(self, progress: float) -> dict[str, View]:
        return {name: self._view(name, progress) for name in self.groups}

    def _view(self, name: str, progress: float) -> View:
        return View(
            name, self.groups[name], self.space.candidates, self.alive[name], self.settled(progress)[name], progress,
            recent=tuple(self.recent[name]),
        )  # fmt: skip

    def genotype(self, progress: float = 1.0) -> Genotype:
        """The cells that would be chosen now, by the mixture alone."""
        select = self.method.select if not self.method.select.asks else TopK()
        return self.space.read({name: select(view) for name, view in self._views(progress).items()})

    # --- at the end: a `oche.methods.discretize.Court` ---------------------------------------------------------------------------

    def conclude(self) -> Genotype:
        """The cells chosen at the end; a selection that asks the supernet does so now, and trains it under its choices."""
        if not self.method.select.asks:
            return self.genotype()
        set_step(self.net, 1.0, None)
        self.method.select.conclude(self)
        return self.space.read(self.alive)

    def view(self, group: str) -> View:
        return replace(
            self._view(group, 1.0),
            evaluate=lambda alive: self.accuracy({**self.alive, group: alive}),
            tune=partial(self._tune, group),
            generator=generator(self.seed, "selection", group),
        )

    def narrow(self, group: str, alive: Tensor) -> None:
        self._narrow({**self.alive, group: alive})

    def random(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: draw(self._view(name, 1.0).usable, dag, generator) for name, dag in self.groups.items()}

    def accuracy(self, alive: dict[str, Tensor], images: int | None = None) -> float:
        """Less the penalty on what the network costs, if there is one (MnasNet, 1807.11626, multiplies by such a term)."""
        kept, self.alive = self.alive, alive
        mixes, self.alive = self.settled(), kept
        dear = 0.0 if self.priced is None else self.priced.excess(zip(self.logits, alive.values(), strict=True), 1.0)
        return self.feed.score(self.net, mixes, images) - dear

    def _tune(self, group: str, alive: Tensor) -> None:
        """Trains the weights under mask ``alive`` (E, O) of ``group``, at a tenth of their first learning rate."""
        self.narrow(group, alive)
        noise: dict[str, Tensor | None] = dict.fromkeys(self.groups)
        self.tuned += 1
        steps = max(1, round(self.method.finetune_share * self.done))
        for x, y in self.feed.extra_batches(steps, self.batch, "tune", self.tuned):
            self._descend(self._loss(x, y, noise, 1.0), self.weights, self.method.weight_optimizer.lr / 10)

    def initial(self) -> Record | None:
        self._agree()
        return self._record(0.0)

    def _agree(self) -> None:
        """Raises `OcheError` where ranks have come to different architectures, and would search on for one that is nobody's."""
        tensors = [*(a.detach() for a in self.logits), *self.alive.values()]
        found = b"".join(t.cpu().numpy().tobytes() for t in tensors)
        self.engine.processes.check_agreement(f"the architecture after {self.done} steps", found)

    def report(self, progress: float) -> Record:
        self._agree()
        q = self.method.within(self.stage, progress)
        self._decide(q)
        record, every = self._record(q), self.method.hessian_every
        if every and (self.epoch + 1) % every == 0:
            record["eigenvalue"] = self._eigenvalue(q)
        said, before = self.collapse.update(self.epoch + 1, record)
        if before is not None:
            self._set_logits({name: torch.tensor(values) for name, values in before["logits"].items()})
        return record | ({"collapse": said} if said else {})

    def _eigenvalue(self, progress: float) -> float:
        """The dominant eigenvalue of the Hessian of L_val by the logits, on one batch, without noise (RobustDARTS)."""
        set_step(self.net, progress, None)
        noise: dict[str, Tensor | None] = dict.fromkeys(self.groups)
        x, y = self.feed.probe_batch(self.epoch, self.batch)
        loss = self._loss(x, y, noise, progress)
        with frozen_statistics(self.net), plain_form(self.net):
            return dominant_eigenvalue(lambda a: loss(self.weights, a), self.logits)

    def _decide(self, progress: float) -> None:
        """What is settled at the end of an epoch."""
        for name, mix in self.settled(progress).items():
            self.recent[name] = [*self.recent[name], mix.ops.cpu()][-RECENT:]
        if (decide := self.method.decide) is not None:
            self._narrow({name: decide(view) for name, view in self._views(progress).items()})

    def _record(self, progress: float) -> Record:
        mixes = self.settled(progress)
        arch = {
            name: {"weights": mix.ops.tolist(), "edges": None if mix.edges is None else mix.edges.tolist()}
            for name, mix in mixes.items()
        }
        staged = {"stage": self.stage + 1} if len(self.method.stages) > 1 else {}
        return {
            **staged,
            "w_lr": self.method.weight_optimizer.rate(progress),
            "arch": arch,
            "logits": {name: a.tolist() for name, a in zip(self.groups, self.logits, strict=True)},
            "entropy": {name: _entropy(mix.ops) for name, mix in mixes.items()},
            **self._cost(progress),
            **self._preview(progress),
        }

    def _cost(self, progress: float) -> Record:
        """What the network to be found is expected to cost, where that is penalised."""
        if self.priced is None:
            return {}
        with torch.no_grad():
            return {"cost": float(self.priced.cost(zip(self.logits, self.alive.values(), strict=True), progress)[0])}

    def _preview(self, progress: float) -> Record:
        """The cells that would be chosen now; of an architecture that does not move there is nothing to see before the end."""
        if not self.method.hypergrad.moves:
            return {}
        genotype = self.genotype(progress)
        skips = {name: cell.share("skip_connect") for name, cell in genotype.cells.items()}
        costs = {} if self.priced is None else {"cost_found": self.priced.costs.of(genotype)}
        return {"skip_share": skips, "genotype": str(genotype), **costs, **self.truth(genotype)}

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "w_opt": self.w_opt.state_dict(),
            "a_opt": self.a_opt.state_dict(),
            "logits": {name: a.detach() for name, a in zip(self.groups, self.logits, strict=True)},
            "alive": self.alive,
            "stage": self.stage,
            "recent": self.recent,
            "feed": self.feed.state(),
            "done": self.done,
            "watch": self.collapse.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._narrow(dict(state["alive"]))
        self.recent, self.done = dict(state["recent"]), state["done"]
        self.collapse.load(state["watch"])
        self.feed.load(state["feed"])
        if state["stage"] != self.stage:
            self._build(state["stage"])
        self.net.load_state_dict(state["net"])
        self.w_opt.load_state_dict(state["w_opt"])
        self.a_opt.load_state_dict(state["a_opt"])
        self._set_logits(state["logits"])

    def _set_logits(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, logits in zip(self.groups, self.logits, strict=True):
                logits.copy_(values[name])


def _entropy(weights: Tensor) -> float:
    """Mean entropy of the rows of ``weights`` (E, O), in nats; rows need not sum to 1."""
    p = weights.double() / weights.double().sum(1, keepdim=True).clamp_min(1e-300)
    return float(torch.special.entr(p).sum(1).mean())


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
    """Search ``space`` by ``recipe`` on ``data`` (a `Dataset`, for text a `Corpus`) from wherever ``session`` left it; return
    the search and its clock.

    ``before`` is shown the search as it stands ready, before its first step. What ``truth`` knows of the cells that would be
    chosen is recorded with them.
    """
    task = Search(space, recipe, data, seed=seed, engine=engine, truth=truth)
    before(task)
    with engine.using_threads():
        with engine.processes.raise_together():
            check_search_in_bf16(space, recipe, engine)
        return task, fit_loop(task, recipe.length, session)
