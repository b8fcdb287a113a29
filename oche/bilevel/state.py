"""The state of a search: supernet, logits, masks and optimizers; the mixtures, cells and costs that follow from it.

Shapes: E edges of a cell, O candidate operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, Genotype, Mix
from oche.core.seeds import derive_seed, generator
from oche.devices.engine import Engine
from oche.devices.mixed_precision import apply_precision, with_precision
from oche.methods.cost_constraints import CostConstraint
from oche.methods.discretize import TopK, View
from oche.methods.hypergradients import Tensors
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.training.loop import Record
from oche.training.losses import names
from oche.training.recipes import space_at_recipe_size

Truth = Callable[[Genotype], Record]  # known true accuracies of a cell, as a record; {} if there are none


class SearchState:
    """The state of a search at one moment. `oche.bilevel.search.Search` moves it."""

    net: nn.Module
    """the supernet"""
    weights: Tensors
    """the weights of the supernet"""
    logits: Tensors
    """the architecture: one tensor (E, O) for each group of edges, or wider with edge logits"""
    alive: dict[str, Tensor]
    """masks (E, O) bool of the living candidates of each group"""
    computes: str
    """the form in which the supernet computes, and the reason"""

    def __init__(self, space: Space, recipe: SearchRecipe, *, seed: int, engine: Engine, truth: Truth) -> None:
        recipe.check(space)
        self.space, self.recipe, self.method, self.seed, self.truth = space, recipe, recipe.method, seed, truth
        self.engine = with_precision(engine, recipe.precision)
        self.regulariser, self.cost_constraint = self.method.regulariser, _cost_constraint(space, recipe, engine)
        self.groups: dict[str, Dag] = space.groups
        self.alive = {name: self.method.first_mask(space, name) for name in self.groups}
        self.at_start = self.alive  # masks with which the stage began
        self.recent: dict[str, list[Tensor]] = {
            name: [] for name in self.groups
        }  # of the last epochs, see `View.recent`
        self._build(0)

    # --- stages -----------------------------------------------------------------------------------------------------

    def _build(self, stage: int) -> None:
        """Build supernet, logits and optimizers of a stage. From the stage before it, only the mask remains."""
        self.stage, part = stage, self.method.stages[stage]
        seed = derive_seed(self.seed, "stage", stage) if stage else self.seed
        with self.engine.seeded(derive_seed(seed, "weights")):
            self.net = self.engine.place(part.of(self.space).supernet(part.edge or self.method.edge))
        twice, precision = self.method.hypergrad.twice, self.recipe.precision
        self.computes = apply_precision(self.engine, self.net, precision, twice=twice)
        self.names = names(self.net)
        self.weights = tuple(self.net.parameters())
        self.logits = tuple(self._first_logits(name, dag, seed) for name, dag in self.groups.items())
        self.w_opt = self.method.weight_optimizer.optimizer(self.weights)
        self.a_opt = self.method.arch_optimizer.optimizer(self.logits)
        self._set_simplices()

    def _first_logits(self, name: str, dag: Dag, seed: int) -> Tensor:
        g = generator(seed, "logits", name)
        logits = self.method.relax.init(dag, len(self.space.candidates), self.method.arch_optimizer.init, g)
        # Logits are few, and their steps are small: never below float32.
        dtype = torch.promote_types(self.engine.dtype, torch.float32)
        return logits.to(self.engine.device, dtype).requires_grad_()

    def _set_logits(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, logits in zip(self.groups, self.logits, strict=True):
                logits.copy_(values[name])

    def _narrow(self, alive: dict[str, Tensor]) -> None:
        """Set the masks of all groups."""
        self.alive = alive
        self._set_simplices()

    def _set_simplices(self) -> None:
        """Tell an optimizer that moves weights on simplices which weights sum to one. Adam ignores it."""
        found = [self.method.relax.simplices(self.alive[name], dag) for name, dag in self.groups.items()]
        if all(simplex is not None for simplex in found):
            self.a_opt.param_groups[0]["simplices"] = found

    # --- mixtures and cells -----------------------------------------------------------------------------------------

    def mixes(self, a: Tensors, noise: Mapping[str, Tensor | None], progress: float) -> dict[str, Mix]:
        """Return the mixture of every group of edges for logits ``a``. ``progress`` is that of the stage."""
        return self._mixes(a, self.alive, noise, progress)

    def draw_noise(self, stream: str, *numbers: int) -> dict[str, Tensor | None]:
        """Return noise of the relaxation for every group, drawn by the seed, the name of a ``stream`` and ``numbers``."""
        count = len(self.space.candidates)
        drawn = {
            name: self.method.relax.noise(dag, count, generator(self.seed, stream, name, *numbers))
            for name, dag in self.groups.items()
        }
        return {name: None if n is None else n.to(self.engine.device) for name, n in drawn.items()}

    def weight_mixes(self, a: Tensors, noise: Mapping[str, Tensor | None], progress: float) -> dict[str, Mix]:
        """Return the mixtures under which the weights train; see `Relaxation.for_weights`."""
        if not self.method.relax.has_phases:
            return self.mixes(a, noise, progress)
        return self._mixes(a, self.alive, noise, progress, self.method.relax.for_weights)

    def _mixes(
        self,
        a: Tensors,
        alive: Mapping[str, Tensor],
        noise: Mapping[str, Tensor | None],
        progress: float,
        relax: Callable[..., Mix] | None = None,
    ) -> dict[str, Mix]:
        relax = relax or self.method.relax
        return {
            name: relax(logits, alive[name], dag, noise[name], progress)
            for (name, dag), logits in zip(self.groups.items(), a, strict=True)
        }

    def settled(self, progress: float = 1.0) -> dict[str, Mix]:
        """Return the noise-free mixtures of the current logits."""
        with torch.no_grad():
            return self.mixes(self.logits, dict.fromkeys(self.groups), progress)

    def undecided(self, progress: float) -> dict[str, Mix]:
        """Return the noise-free mixtures of the current logits as if nothing had been decided in this stage."""
        with torch.no_grad():
            return self._mixes(self.logits, self.at_start, dict.fromkeys(self.groups), progress)

    def _views(self, progress: float) -> dict[str, View]:
        return {name: self._view(name, progress) for name in self.groups}

    def _view(self, name: str, progress: float) -> View:
        return View(
            name, self.groups[name], self.space.candidates, self.alive[name], self.settled(progress)[name], progress,
            recent=tuple(self.recent[name]), undecided_mix=self.undecided(progress)[name],
        )  # fmt: skip

    def genotype(self, progress: float = 1.0) -> Genotype:
        """Return the cells that the mixture alone would choose now, without evaluating the supernet."""
        select = self.method.select if not self.method.select.asks_supernet else TopK()
        return self.space.read({name: select(view) for name, view in self._views(progress).items()})

    # --- the record of an epoch -------------------------------------------------------------------------------------

    def _record(self, progress: float) -> Record:
        """Return the architecture as plain values: mixtures, logits, their entropies, costs, and the cells chosen now."""
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
            **self._expected_cost(progress),
            **self._chosen_cells(progress),
        }

    def _expected_cost(self, progress: float) -> Record:
        """Return the expected cost of the mixture, if the method penalises a cost."""
        if self.cost_constraint is None:
            return {}
        pairs = zip(self.logits, self.alive.values(), strict=True)
        with torch.no_grad():
            return {"cost": float(self.cost_constraint.cost(pairs, progress)[0])}

    def _chosen_cells(self, progress: float) -> Record:
        """Return the cells that would be chosen now, with their cost and true accuracies. Nothing if the logits never move."""
        if not self.method.hypergrad.moves:
            return {}
        genotype = self.genotype(progress)
        skips = {name: cell.share("skip_connect") for name, cell in genotype.cells.items()}
        costs = {} if self.cost_constraint is None else {"cost_found": self.cost_constraint.costs.of(genotype)}
        return {"skip_share": skips, "genotype": str(genotype), **costs, **self.truth(genotype)}


def _cost_constraint(space: Space, recipe: SearchRecipe, engine: Engine) -> CostConstraint | None:
    """Return the constraint on the cost of the network to be found, at the size of the recipe that it will be trained by."""
    if (penalty := recipe.method.cost_penalty) is None:
        return None
    sized = space_at_recipe_size(space, recipe.cost_recipe or space.recipe)
    return penalty.constraint(sized, recipe.method.relax, recipe.cost_target, engine, recipe.method.cost_form)


def _entropy(weights: Tensor) -> float:
    """Return the mean entropy of the rows of ``weights`` (E, O), in nats. Rows need not sum to 1."""
    p = weights.double() / weights.double().sum(1, keepdim=True).clamp_min(1e-300)
    return float(torch.special.entr(p).sum(1).mean())
