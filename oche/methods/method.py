"""What a search method is: a composition of small values, checked when it is put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf
from pathlib import Path
from typing import Literal

from oche.core.architecture import Dag, all_alive
from oche.core.budget import Budget
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, ExponentiatedGradient, Sgd
from oche.core.registry import component
from oche.cost.units import amount
from oche.devices.mixed_precision import Precision
from oche.methods.cost_constraints import Resource
from oche.core.eigenvalue_stop import EigenvalueStop
from oche.methods.discretize import Decide, TopK
from oche.methods.hypergradients import HyperGradient, first_order
from oche.methods.perturbations import Perturb
from oche.methods.regularizers import Penalty, parts
from oche.methods.relaxations import Relaxation, Softmax
from oche.spaces.base import Space
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge


@component
@dataclass(frozen=True)
class Stage:
    """A part of a search that has a supernet, logits and optimisers of its own; of the stage before it only the mask of
    what is alive remains (P-DARTS, 1904.12760). Schedules and the weights' learning rate run from start to end in each."""

    share: float = 1.0
    """length, relative to that of the other stages"""
    depth: float = 1.0
    """cells in the supernet, relative to the space's"""
    width: float = 1.0
    """channels of the supernet, relative to the space's"""
    edge: EdgeBuilder | None = None
    """what stands on the edges in this stage; None: what the method says"""
    finish: Decide | None = None
    """what the stage leaves alive for the next one"""

    def __post_init__(self) -> None:
        if not all(0 < x < inf for x in (self.share, self.depth, self.width)):
            raise OcheError(
                f"a stage of share={self.share}, depth={self.depth}, width={self.width} is none; use numbers above 0"
            )

    def of(self, space: Space) -> Space:
        """``space`` as large as this stage has it."""
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
    """A search method: a composition of small values. Defaults are DARTS' (first order), recipe of 1806.09055 §3.1.1."""

    relax: Relaxation = Softmax()
    """from logits to a mixture"""
    hypergrad: HyperGradient = first_order
    """gradient of the upper problem: joint, first_order, FiniteDifference, exact, Neumann, fixed"""
    edge: EdgeBuilder = MixedEdge()
    """what stands on an edge of the supernet"""
    stages: tuple[Stage, ...] = (Stage(),)
    """parts of the search that have supernets of their own"""
    penalty: Penalty | None = None
    """what is added to the upper loss; latency, parameters and flops come on top of what the method has"""
    target: str | None = None
    """cost from which those three act: 5ms, 3M (weights), 100MFLOPs; None: the cheaper the better"""
    strength: float = 1.0
    """their strength: 1 moves logits as the optimiser's own step at most"""
    priced: str | None = None
    """recipe whose network the cost is of, or supernet; by default that which its cells are published with"""
    latencies: Path | None = None
    """table of times by oche cost --table, from any machine; by default they are measured when the search starts"""
    perturb: Perturb | None = None
    """what is done to the mixture that the weights train under"""
    decide: Decide | None = None
    """what is settled at the end of an epoch, while the search goes on"""
    select: Decide = TopK()
    """how the final cells are read off"""
    tune: float = 0.1
    """share of the search's steps for which a selection that asks the supernet trains it after each choice"""
    w: Sgd = Sgd(lr_min=0.001)
    """optimiser of network weights"""
    a: Adam | ExponentiatedGradient = Adam()
    """optimiser of architecture logits"""
    batch: int = 64
    """images in a batch, of training and of validation"""
    grow: int = 0
    """images by which a batch grows with every edge that is settled"""
    epochs: int = 50
    """passes over the training half"""
    steps: int | None = None
    """length in steps instead of epochs"""
    budget: str | None = None
    """length in time instead of epochs: 90s, 10m, 1h30m"""
    on_collapse: Literal["warn", "stop", "rollback"] = "warn"
    """what to do when skip connections take over: say so, end the search, or end it with the logits of before"""
    curvature: int = 0
    """epochs between two measurements of the dominant eigenvalue of the architecture's Hessian; 0: none"""
    stop: EigenvalueStop = EigenvalueStop()
    """when those eigenvalues are a sign of collapse"""
    warmup: float = 0.0
    """share of each stage that trains weights only, before the architecture moves"""
    split: float = 0.5
    """share of the training set that trains weights; the rest validates the architecture"""
    pad: int | None = None
    """random crops after padding by this many pixels; by default what suits the data"""
    flip: bool | None = None
    """random horizontal flips; by default what suits the data"""
    precision: Precision = "float32"
    """bf16: convolutions in bfloat16, with weights, logits, sums and losses in float32; for GPUs"""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise OcheError(
                f"warmup={self.warmup} leaves none of the search to train the architecture; use 0 <= warmup < 1"
            )
        if not 0 < self.split < 1:
            raise OcheError(f"split={self.split} leaves one half empty; use 0 < split < 1, published: 0.5")
        if self.batch < 1 or self.grow < 0 or (self.pad or 0) < 0:
            raise OcheError(
                f"batch={self.batch}, grow={self.grow}, pad={self.pad} cannot train; use batch >= 1, grow >= 0, pad >= 0"
            )
        if not 0 <= self.tune < inf:
            raise OcheError(f"tune={self.tune} is no share of the search's steps; use tune >= 0, published: 0.1")
        if self.precision not in ("float32", "bf16"):
            raise OcheError(f"precision={self.precision!r} cannot search; use 'float32' or 'bf16'")
        if self.curvature < 0:
            raise OcheError(f"curvature={self.curvature} is no number of epochs; use curvature >= 0, 0 for none")
        if self.curvature and self.hypergrad.one_level:
            raise OcheError(
                "curvature is that of the validation loss, and a one-level search has no validation half; use curvature=0"
            )
        if not self.stages:
            raise OcheError("stages=() leaves nothing to do; use at least one, (Stage(),)")
        _ = self.length  # its own checks
        self._check_stages()
        self._check_combination()

    def _check_stages(self) -> None:
        last, count = self.stages[-1], len(self.stages)
        if last.finish is not None:
            raise OcheError(
                f"{type(last.finish).__name__} finishes stage {count} of {count}, after which there is none to narrow; "
                "use it as select, or in an earlier stage"
            )
        if self.steps is not None:
            self._check_steps(self.steps, f"steps={self.steps}", "steps")

    def check_length(self, images: int) -> None:
        """Raises `OcheError` where the epochs over ``images``, the training set, are too few for the warm-up of some stage."""
        if self.steps is None and self.budget is None:
            trained = images if self.hypergrad.one_level else round(self.split * images)
            self.check_epochs(max(1, trained // self.batch))

    def check_epochs(self, each: int) -> None:
        """Raises `OcheError` where epochs of ``each`` steps are too few for the warm-up of some stage."""
        if self.steps is None and self.budget is None:
            said = f"epochs={self.epochs} of {each} step{'s' * (each > 1)} (batch={self.batch})"
            self._check_steps(self.epochs * each, said, "epochs", each)

    def _check_steps(self, steps: int, said: str, unit: str, each: int = 1) -> None:
        count = len(self.stages)
        if not (idle := [i for i in range(count) if not self._moves(i, steps)]):
            return
        shares = [end - start for start, end in map(self.bounds, range(count))]
        surely = (
            ceil(1 / (min(shares) * (1 - self.warmup)) / each) + 1
        )  # the last step of a stage is that late, or later
        tried = range(steps // each, surely) if surely < 10_000 else ()
        enough = next((n for n in tried if all(self._moves(i, n * each) for i in range(count))), surely)
        raise OcheError(
            f"{said} with warmup={self.warmup} leaves stage {idle[0] + 1} of {count} no step that moves the architecture; "
            f"use {unit} >= {enough}, a shorter warm-up or fewer stages"
        )

    def _moves(self, stage: int, steps: int) -> bool:
        """Whether any of ``steps`` moves the architecture in ``stage``: its last one, then."""
        start, end = self.bounds(stage)
        last = ceil(end * steps - 1e-9) - 1
        return last / steps >= start and self.within(stage, last / steps) >= self.warmup

    def _check_combination(self) -> None:
        dag = Dag()
        on_simplices = self.relax.simplices(all_alive(dag, 2), dag) is not None
        if isinstance(self.a, ExponentiatedGradient) and not on_simplices:
            raise OcheError(
                f"ExponentiatedGradient moves weights on simplices, and those of {type(self.relax).__name__} lie on none; "
                "use a=Adam(), or relax=Softmax(), NodeSoftmax() or EdgeNormalised()"
            )
        if not self.w.plain:
            raise OcheError(
                "w.nesterov=True and w.decay_norms=False are for trainings: a search looks ahead along plain momentum; "
                "leave them as they are"
            )
        if not self.hypergrad.moves and not self.select.asks:
            raise OcheError(
                f"{type(self.select).__name__} reads off logits that {type(self.hypergrad).__name__} leaves where they start; "
                "use a selection that asks the supernet (SampleBest(), Evolution(), Perturbation()), or hypergrad=first_order"
            )
        if eager := [d for d in (self.decide, *(s.finish for s in self.stages)) if d is not None and d.asks]:
            raise OcheError(
                f"{type(eager[0]).__name__} asks the trained supernet, once and at the end; use it as select="
            )
        if self.precision != "float32" and self.hypergrad.differences:
            raise OcheError(
                f"{type(self.hypergrad).__name__} takes differences that precision={self.precision!r} rounds away; use "
                "hypergrad=exact, Neumann() or first_order, or precision='float32'"
            )
        if self.penalty is not None:
            self.penalty.check(self.relax)
        _ = self.limit
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
        if self.grow and self.decide is None and all(stage.finish is None for stage in self.stages):
            raise OcheError(
                f"grow={self.grow} adds images for every edge that is settled, and nothing settles any; "
                "use decide=GreedyEdge(), or grow=0"
            )

    @property
    def resource(self) -> Resource | None:
        """The part of the penalty that is about what the network costs."""
        found = [p for p in parts(self.penalty) if isinstance(p, Resource)]
        if len(found) > 1:
            raise OcheError(
                f"a search has one target, and {' and '.join(p.kind for p in found)} would each need one; use one of them"
            )
        return found[0] if found else None

    @property
    def regulariser(self) -> Penalty | None:
        """The rest of the penalty: what is added to the upper loss."""
        rest = [p for p in parts(self.penalty) if not isinstance(p, Resource)]
        return sum(rest[1:], rest[0]) if rest else None

    @property
    def limit(self) -> float | None:
        """`target` in milliseconds, weights or FLOPs. Raises `OcheError` where it and the penalty do not belong together."""
        if not 0 <= self.strength < inf:
            raise OcheError(f"strength={self.strength} is no strength; use strength >= 0")
        resource = self.resource
        if resource is None and (self.target or self.latencies):
            raise OcheError(
                f"target {self.target or self.latencies} is of no penalty; add penalty latency, parameters or flops"
            )
        return None if resource is None or self.target is None else amount(self.target, resource.kind)

    @property
    def length(self) -> Budget:
        return Budget.of(self.epochs, self.steps, self.budget)

    def check(self, space: Space) -> None:
        """Raises `OcheError` where the method cannot search ``space``; builds nothing."""
        if self.precision != "float32" and space.domain != "images":
            raise OcheError(
                f"precision={self.precision!r} is for networks of images, and this space is one for {space.domain}; "
                "use precision='float32'"
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

    def check_target(self, space: Space) -> None:
        """Raises `OcheError` for a target that no network of ``space``, at its own sizes, or every one of them, is below; measures
        nothing."""
        resource = self.resource
        if resource is not None and not (resource.measured and self.latencies is None):
            resource.within(self, space)

    def bounds(self, stage: int) -> tuple[float, float]:
        """Progress of the whole search at which ``stage`` starts and ends."""
        shares = [s.share for s in self.stages]
        whole = sum(shares)
        return sum(shares[:stage]) / whole, sum(shares[: stage + 1]) / whole

    def within(self, stage: int, progress: float) -> float:
        """Progress in [0, 1] within ``stage``, from that of the whole search."""
        start, end = self.bounds(stage)
        return min(1.0, max(0.0, (progress - start) / (end - start)))
