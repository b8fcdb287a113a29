"""A search recipe: a method, and the length, batches, augmentation, precision and cost target of a search by it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil, inf
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from oche.core.arguments import check_fields
from oche.core.budget import Budget
from oche.core.errors import OcheError, did_you_mean, plural
from oche.cost.units import parse_amount
from oche.devices.mixed_precision import Precision
from oche.methods.cost_constraints import CostTarget
from oche.methods.method import Method
from oche.spaces.base import Space

RENAMED = {
    "w": "weight_optimizer",
    "a": "arch_optimizer",
    "tune": "finetune_share",
    "curvature": "hessian_every",
    "grow": "batch_growth",
    "stop": "eigenvalue_stop",
    "priced": "cost_recipe",
}  # names of fields before version 0.2, with their present names


@dataclass(frozen=True, init=False)
class SearchRecipe:
    """A method and the settings of a search by it. The defaults are first-order DARTS (1806.09055 §3.1.1).

    It takes its own fields and those of `Method` alike, so that ``SearchRecipe(relax=Sigmoid(), epochs=10)`` and
    ``dataclasses.replace(recipe, relax=Sigmoid(), epochs=10)`` work. Raises `OcheError` for unknown fields and for values
    that do not go together.
    """

    method: Annotated[Method, tyro.conf.arg(name="search", prefix_name=False)] = Method()
    """the search method"""
    epochs: int = 50
    """passes over the training half"""
    steps: int | None = None
    """length in steps instead of epochs"""
    budget: str | None = None
    """length in time instead of epochs: 90s, 10m, 1h30m"""
    batch: int = 64
    """images in a batch, for training and for validation"""
    split: float = 0.5
    """share of the training set that trains weights; the rest validates the architecture"""
    pad: int | None = None
    """pixels of padding before random crops; by default as suits the data"""
    flip: bool | None = None
    """random horizontal flips; by default as suits the data"""
    precision: Precision = "float32"
    """bf16: convolutions in bfloat16, with weights, logits, sums and losses in float32; for GPUs"""
    target: str | None = None
    """cost above which the penalties latency, parameters and flops act: 5ms, 3M (weights), 100MFLOPs; None: always"""
    strength: float = 1.0
    """strength of the penalties latency, parameters and flops: 1 moves logits as far as the optimizer's own step at most"""
    cost_recipe: str | None = None
    """training recipe whose network is priced, or supernet; by default the recipe that the space's cells are published with"""
    latencies: Path | None = None
    """latency table written by oche cost --table, on any machine; by default latencies are measured at the start"""

    #: old and short names of fields, with the path of the field that each means
    moved: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(self, method: Method | None = None, **given: Any) -> None:
        """``given``: fields of this class, and fields of `Method` that replace those of ``method``."""
        given = {self._current_name(name): value for name, value in given.items()}
        method = check_fields(SearchRecipe, {"method": SearchRecipe.method if method is None else method})["method"]
        own = {f.name for f in fields(SearchRecipe)}
        of_method = {name: given.pop(name) for name in [*given] if name not in own}
        if of_method:
            method = Method(**{f.name: getattr(method, f.name) for f in fields(Method)} | of_method)
        values = {f.name: f.default for f in fields(SearchRecipe)} | check_fields(SearchRecipe, given, late := [])
        for name, value in (values | {"method": method}).items():
            object.__setattr__(self, name, value)
        self._check()
        if late:
            raise late[0]

    @staticmethod
    def _current_name(name: str) -> str:
        """Return the current name of a field that may be given by its old name. Raises `OcheError` for unknown names."""
        if name in RENAMED:
            warnings.warn(f"{name} of a search is now called {RENAMED[name]}", DeprecationWarning, stacklevel=4)
            return RENAMED[name]
        known = [f.name for kind in (Method, SearchRecipe) for f in fields(kind)]
        if name not in known:
            raise OcheError(f"a search has no field {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
        return name

    def _check(self) -> None:
        """Raise `OcheError` for settings that cannot search."""
        if not 0 < self.split < 1:
            raise OcheError(f"split={self.split} leaves a part empty; use 0 < split < 1, published: 0.5")
        if self.batch < 1 or (self.pad or 0) < 0:
            raise OcheError(f"batch={self.batch}, pad={self.pad} cannot train; use batch >= 1, pad >= 0")
        if self.precision not in ("float32", "bf16"):
            raise OcheError(f"precision={self.precision!r} cannot search; use 'float32' or 'bf16'")
        if self.precision != "float32" and self.method.hypergrad.differences:
            raise OcheError(
                f"{type(self.method.hypergrad).__name__} takes differences that precision={self.precision!r} rounds away; use "
                "hypergrad=exact, Neumann() or first_order, or precision='float32'"
            )
        _ = self.length  # raises `OcheError` for a length that cannot be
        if self.steps is not None:
            self._check_steps(self.steps, f"steps={self.steps}", "steps")
        _ = self.cost_target  # raises `OcheError` for a target without a penalty

    @property
    def length(self) -> Budget:
        """The length of the search."""
        return Budget.of(self.epochs, self.steps, self.budget)

    @property
    def cost_target(self) -> CostTarget:
        """The target of the penalty on cost. Raises `OcheError` if there is a target and no such penalty."""
        if not 0 <= self.strength < inf:
            raise OcheError(f"strength={self.strength} must be a finite number that is not negative; use strength >= 0")
        penalty = self.method.cost_penalty
        if penalty is None and (self.target or self.latencies):
            raise OcheError(
                f"target {self.target or self.latencies} belongs to no penalty; add penalty latency, parameters or flops"
            )
        limit = None if penalty is None or self.target is None else parse_amount(self.target, penalty.kind)
        return CostTarget(limit, self.strength, self.latencies)

    def check(self, space: Space) -> None:
        """Raise `OcheError` if ``space`` cannot be searched with this recipe. Builds no network."""
        if self.precision != "float32" and space.domain != "images":
            raise OcheError(
                f"precision={self.precision!r} is for networks of images, and this space is one for {space.domain}; "
                "use precision='float32'"
            )
        self.method.check(space)

    def check_target(self, space: Space) -> None:
        """Raise `OcheError` if all networks of ``space``, at its own sizes, are above the target, or all below. Measures
        nothing.
        """
        penalty = self.method.cost_penalty
        if penalty is not None and not (penalty.measured and self.latencies is None):
            penalty.constraint(space, self.method.relax, self.cost_target, form=self.method.cost_form)

    # --- whether the length leaves every stage a step that moves the architecture --------------------------------------------

    def check_length(self, images: int) -> None:
        """Raise `OcheError` if the epochs over a training set of ``images`` are too few for the warm-up of some stage."""
        if self.steps is None and self.budget is None:
            trained = images if self.method.hypergrad.one_level else round(self.split * images)
            self.check_epochs(max(1, trained // self.batch))

    def check_epochs(self, each: int) -> None:
        """Raise `OcheError` if epochs of ``each`` steps are too few for the warm-up of some stage."""
        if self.steps is None and self.budget is None:
            said = f"epochs={self.epochs} of {plural(each, 'step')} (batch={self.batch})"
            self._check_steps(self.epochs * each, said, "epochs", each)

    def _check_steps(self, steps: int, said: str, unit: str, each: int = 1) -> None:
        """Raise `OcheError` if ``steps`` leave a stage no step that moves the architecture.

        The message opens with ``said`` and names the least sufficient length in ``unit``, each of ``each`` steps.
        """
        count = len(self.method.stages)
        if not (idle := [i for i in range(count) if not self._moves_architecture(i, steps)]):
            return
        shares = [end - start for start, end in map(self.method.stage_bounds, range(count))]
        # From this length on, the last step of every stage comes after its warm-up. A shorter length may do.
        surely = ceil(self.method.arch_every / (min(shares) * (1 - self.method.warmup)) / each) + 1
        tried = range(steps // each, surely) if surely < 10_000 else ()
        enough = next((n for n in tried if all(self._moves_architecture(i, n * each) for i in range(count))), surely)
        raise OcheError(
            f"{said} with warmup={self.method.warmup} leaves stage {idle[0] + 1} of {count} no step that moves the architecture; "
            f"use {unit} >= {enough}, a shorter warm-up or fewer stages"
        )

    def _moves_architecture(self, stage: int, steps: int) -> bool:
        """Return whether any of ``steps`` steps moves the architecture in ``stage``. If any does, the last of its turns does."""
        start, end = self.method.stage_bounds(stage)
        last, every = ceil(end * steps - 1e-9) - 1, self.method.arch_every
        last = (last + 1) // every * every - 1
        return last / steps >= start and self.method.stage_progress(stage, last / steps) >= self.method.warmup


SearchRecipe.moved = {f.name: ("method", f.name) for f in fields(Method)} | {
    old: (new,) if new == "cost_recipe" else ("method", new) for old, new in RENAMED.items()
}
