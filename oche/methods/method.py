"""A search method: a composition of small values, checked when it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Literal

from torch import Tensor

from oche.core.architecture import NONE, Dag, all_alive
from oche.core.eigenvalue_stop import EigenvalueStop
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, ExponentiatedGradient, Sgd
from oche.core.registry import component
from oche.methods.cost_constraints import CostPenalty
from oche.methods.cost_in_loss import CostForm
from oche.methods.discretize import Decide, TopK
from oche.methods.hypergradients import HyperGradient, first_order
from oche.methods.perturbations import Perturb
from oche.methods.regularizers import Penalty, summands
from oche.methods.relaxations import Relaxation, Softmax
from oche.methods.sampled_paths import SampledPath
from oche.spaces.base import Space
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge


@component
@dataclass(frozen=True)
class Stage:
    """A part of a search with a supernet, logits and optimizers of its own (P-DARTS, 1904.12760).

    From the stage before it, only the mask of living candidates remains. Schedules and the learning rate of the weights run
    from start to end in each stage. Raises `OcheError` unless share, depth and width are positive.
    """

    share: float = 1.0
    """length, relative to the other stages"""
    depth: float = 1.0
    """cells of the supernet, relative to those of the space"""
    width: float = 1.0
    """channels of the supernet, relative to those of the space"""
    edge: EdgeBuilder | None = None
    """builds the edges of the supernet in this stage; None: as the method does"""
    finish: Decide | None = None
    """decides at the end of the stage which candidates stay alive for the next one"""

    def __post_init__(self) -> None:
        if not all(0 < x < inf for x in (self.share, self.depth, self.width)):
            raise OcheError(
                f"a stage of share={self.share}, depth={self.depth}, width={self.width} is empty; use numbers above 0"
            )

    def of(self, space: Space) -> Space:
        """Return ``space`` at the size of this stage. Raises `OcheError` if the space has no such size."""
        changed = {"cells": self.depth, "channels": self.width}
        if lacking := [name for name, by in changed.items() if by != 1 and not hasattr(space, name)]:
            raise OcheError(
                f"a stage of depth={self.depth:.3g}, width={self.width:.3g} changes the {' and '.join(lacking)} of the supernet, "
                f"and that of {type(space).__name__} has none; use stages of depth=1 and width=1, or another method"
            )
        sizes = {name: max(1, round(by * getattr(space, name))) for name, by in changed.items() if by != 1}
        return replace(space, **sizes) if sizes else space


@component
@dataclass(frozen=True)
class Method:
    """A search method: a composition of small values. The defaults are first-order DARTS (1806.09055 §3.1.1).

    Length, batches, precision and the target of a cost are not part of a method; `oche.methods.recipe.SearchRecipe` adds
    them. Raises `OcheError` for values that do not go together.
    """

    relax: Relaxation = Softmax()
    """turns logits into a mixture"""
    hypergrad: HyperGradient = first_order
    """gradient of the upper problem: joint, first_order, FiniteDifference, exact, Neumann, fixed"""
    edge: EdgeBuilder = MixedEdge()
    """builds the edges of the supernet"""
    stages: tuple[Stage, ...] = (Stage(),)
    """parts of the search, each with a supernet of its own"""
    penalty: Penalty | None = None
    """penalty on the architecture, added to the upper loss; on a command line latency, parameters and flops add to the one of the
    method"""
    perturb: Perturb | None = None
    """perturbs the mixture under which the weights train"""
    decide: Decide | None = None
    """settles part of the architecture at the end of each epoch"""
    select: Decide = TopK()
    """reads the final cells off the supernet"""
    finetune_share: float = 0.1
    """share of the search's steps that train the supernet after each choice of a selection that evaluates it"""
    weight_optimizer: Sgd = Sgd(lr_min=0.001)
    """optimizer of the network weights"""
    arch_optimizer: Adam | ExponentiatedGradient = Adam()
    """optimizer of the architecture logits"""
    batch_growth: int = 0
    """images by which a batch grows with every settled edge"""
    on_collapse: Literal["warn", "stop", "rollback"] = "warn"
    """what to do when skip connections take over: warn, end the search, or end it with the logits of an earlier epoch"""
    hessian_every: int = 0
    """epochs between two measurements of the dominant eigenvalue of the architecture's Hessian; 0: never"""
    eigenvalue_stop: EigenvalueStop = EigenvalueStop()
    """rule that reads a collapse off the eigenvalues that hessian_every measures"""
    warmup: float = 0.0
    """share of each stage that trains weights only, before the architecture moves"""
    arch_every: int = 1
    """steps of the weights for each step of the architecture; only these take a validation batch"""
    cost_form: CostForm | None = None
    """how the penalties latency, parameters and flops act: None: in a step of their own, which aims at a target; LogPower, Added,
    RewardRatio: inside the loss, as FBNet and ProxylessNAS have it
    """
    none: Literal["always", "in-cells", "never"] = "always"
    """whether "none" is a candidate, where the space has it: always; in-cells: only where a final cell may hold it
    (NAS-Bench-201); never"""

    former: ClassVar[Mapping[str, Any]] = {"none": "always", "arch_every": 1, "cost_form": None}

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise OcheError(
                f"warmup={self.warmup} leaves none of the search to train the architecture; use 0 <= warmup < 1"
            )
        if self.arch_every < 1:
            raise OcheError(f"arch_every={self.arch_every} is no number of steps; use 1 or more, often 5")
        if self.batch_growth < 0:
            raise OcheError(f"batch_growth={self.batch_growth} shrinks batches; use batch_growth >= 0")
        if not 0 <= self.finetune_share < inf:
            raise OcheError(
                f"finetune_share={self.finetune_share} cannot be a share of the search's steps; use finetune_share >= 0, "
                "published: 0.1"
            )
        if self.hessian_every < 0:
            raise OcheError(
                f"hessian_every={self.hessian_every} cannot be a number of epochs; use hessian_every >= 0, 0 for never"
            )
        if self.hessian_every and self.hypergrad.one_level:
            raise OcheError(
                "hessian_every measures the curvature of the validation loss, and a one-level search has no validation half; "
                "use hessian_every=0"
            )
        if not self.stages:
            raise OcheError("stages=() leaves nothing to do; use at least one, (Stage(),)")
        last, count = self.stages[-1], len(self.stages)
        if last.finish is not None:
            raise OcheError(
                f"{type(last.finish).__name__} finishes stage {count} of {count}, and no stage follows that it could narrow; "
                "use it as select, or in an earlier stage"
            )
        self._check_combination()

    def _check_combination(self) -> None:
        """Raise `OcheError` if parts of the method contradict each other."""
        dag = Dag()
        on_simplices = self.relax.simplices(all_alive(dag, 2), dag) is not None
        if isinstance(self.arch_optimizer, ExponentiatedGradient) and not on_simplices:
            raise OcheError(
                "ExponentiatedGradient moves weights on simplices, and the weights of "
                f"{type(self.relax).__name__} lie on no simplex; use arch_optimizer=Adam(), "
                "or relax=Softmax(), NodeSoftmax() or EdgeNormalised()"
            )
        if not self.weight_optimizer.decay_norms:
            raise OcheError(
                "weight_optimizer.decay_norms=False is for trainings: the look-ahead of a search decays all weights; leave it as "
                "it is"
            )
        if not self.hypergrad.moves and not self.select.asks_supernet:
            raise OcheError(
                f"{type(self.select).__name__} reads cells off logits that {type(self.hypergrad).__name__} leaves where they "
                "start; use a selection that evaluates the supernet (SampleBest(), Evolution(), Perturbation()), "
                "or hypergrad=first_order"
            )
        if eager := [d for d in (self.decide, *(s.finish for s in self.stages)) if d is not None and d.asks_supernet]:
            raise OcheError(
                f"{type(eager[0]).__name__} evaluates the trained supernet, once and at the end; use it as select="
            )
        if isinstance(self.relax, SampledPath) and self.hypergrad.moves and not self.hypergrad.draws:
            raise OcheError(
                f"SampledPath has no gradient that {type(self.hypergrad).__name__} could take; use hypergrad=ScoreFunction()"
            )
        if self.penalty is not None:
            self.penalty.check(self.relax)
        if self.relax.has_phases and self.hypergrad.one_level:
            raise OcheError(
                f"{type(self.relax.by_candidate).__name__} evaluates other candidates for the architecture than for the weights, "
                "and a one-level search takes one step of both; use hypergrad=first_order"
            )
        if self.hypergrad.draws and not self.relax.has_log_prob:
            raise OcheError(
                f"{type(self.hypergrad).__name__} weighs drawn architectures by their probabilities, and "
                f"{type(self.relax).__name__} draws none; use relax=GumbelHard(), or hypergrad=first_order"
            )
        if self.cost_form is not None and self.hypergrad.one_level:
            raise OcheError(
                f"{type(self.cost_form).__name__} puts the cost into the loss of the architecture, and a one-level search has "
                "one loss for weights and architecture; use cost_form=None"
            )
        if self.perturb is not None and self.hypergrad.one_level:
            raise OcheError(
                f"{type(self.perturb).__name__} perturbs the mixture of the weight step alone, and a one-level search takes one "
                "step of both; use hypergrad=first_order, or no perturbation"
            )
        if self.perturb is not None and not self.relax.mixes:
            raise OcheError(
                f"{type(self.perturb).__name__} changes weights between candidates, and {type(self.relax).__name__} evaluates "
                "one alone; use relax=Softmax(), or no perturbation"
            )
        if self.batch_growth and self.decide is None and all(stage.finish is None for stage in self.stages):
            raise OcheError(
                f"batch_growth={self.batch_growth} adds images for every settled edge, and no decision settles edges; "
                "use decide=GreedyEdge(), or batch_growth=0"
            )

    def first_mask(self, space: Space, group: str) -> Tensor:
        """Return the mask (E, O) of the candidates with which a search begins: the space's, or these without "none"; see
        ``none``.
        """
        dag, candidates, alive = space.groups[group], space.candidates, space.alive(group)
        if NONE in candidates and (self.none == "never" or (self.none == "in-cells" and not dag.none)):
            alive[:, candidates.index(NONE)] = False
        return alive

    @property
    def cost_penalty(self) -> CostPenalty | None:
        """The part of the penalty that is on the cost of the network, or None. Raises `OcheError` if there are several."""
        found = [p for p in summands(self.penalty) if isinstance(p, CostPenalty)]
        if len(found) > 1:
            raise OcheError(
                f"a search has one cost target, and {' and '.join(p.kind for p in found)} each need one; use one of them"
            )
        return found[0] if found else None

    @property
    def regulariser(self) -> Penalty | None:
        """The rest of the penalty, which is added to the upper loss."""
        rest = [p for p in summands(self.penalty) if not isinstance(p, CostPenalty)]
        return sum(rest[1:], rest[0]) if rest else None

    def check(self, space: Space) -> None:
        """Raise `OcheError` if the method cannot search ``space``. Builds no network."""
        if not all(self.first_mask(space, group).any(1).all() for group in space.groups):
            raise OcheError(
                f"none={self.none!r} leaves out the only candidate of the space, 'none'; write none='always', or a space with "
                "others"
            )
        for i, stage in enumerate(self.stages, 1):
            part = stage.of(space)
            if lacking := [name for name in space.groups if name not in part.groups]:
                raise OcheError(
                    f"stage {i} of {len(self.stages)} is so small (depth={stage.depth:.3g}) that its supernet has no "
                    f"{lacking[0]!r} cell; use a space of more cells, or a larger depth"
                )
            part.check_edge(stage.edge or self.edge)
        if self.penalty is not None:
            self.penalty.check_space(space)
        self.hypergrad.check_space(space)

    def stage_bounds(self, stage: int) -> tuple[float, float]:
        """Return the progress of the whole search, in [0, 1], at which ``stage`` starts and ends."""
        shares = [s.share for s in self.stages]
        whole = sum(shares)
        return sum(shares[:stage]) / whole, sum(shares[: stage + 1]) / whole

    def stage_progress(self, stage: int, progress: float) -> float:
        """Return the progress within ``stage``, in [0, 1], for a ``progress`` of the whole search."""
        start, end = self.stage_bounds(stage)
        return min(1.0, max(0.0, (progress - start) / (end - start)))
