"""How the trainings of a fit compute: the engine's form of a cell and the precision, chosen by timing each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from oche.core.errors import OcheError
from oche.data import Dataset
from oche.devices.engine import Engine
from oche.devices.mixed_precision import Precision
from oche.fitting.timing import time_training
from oche.kernels.choose import EngineMode
from oche.training.image_recipes import Recipe

AskedPrecision = Literal["auto", "float32", "bf16"]
GAIN = 0.9  # another form is taken if a step takes less than this share of the time


@dataclass(frozen=True)
class Form:
    """How a training computes. ``seconds``: of a step of each form that was timed, by its name."""

    engine: EngineMode = "auto"
    precision: Precision = "float32"
    seconds: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", tuple((name, value) for name, value in self.seconds))

    @property
    def name(self) -> str:
        """The precision, and the engine that was asked for: "float32 plain", "bf16 auto"."""
        return f"{self.precision} {self.engine}"

    def describe(self) -> str:
        """Return a sentence for the plan: the form, and what a step takes in each form that was timed."""
        said = {"float32": "convolutions in float32", "bf16": "convolutions in bfloat16"}[self.precision]
        times = "; ".join(f"{name} {1000 * value:.0f} ms" for name, value in self.seconds)
        return f"computes with {said}, engine {self.engine}" + (f" (a small step: {times})" if times else "")


def fastest_form(genotype: str, recipe: Recipe, data: Dataset, engine: Engine, precision: AskedPrecision) -> Form:
    """Return the form in which a step of ``recipe`` is fastest on ``engine``.

    The form in float32 by the given engine is kept unless another saves a tenth of the time. bfloat16 is tried only if
    the gradients of its convolutions are right on this device. Raises `OcheError` if no form can train.
    """
    first, *others = _forms(engine, precision)
    if not others:
        return first
    chosen, best, times = None, float("inf"), []
    for form in (first, *others):
        trial = replace(recipe, precision=form.precision)
        on = replace(engine, fused=form.engine)
        try:
            if form.precision == "bf16":
                trial.check(genotype, data, on)
            seconds = time_training(genotype, trial, data, on)[0]
        except OcheError:
            if form is first:
                raise
            continue
        times.append((form.name, seconds))
        if chosen is None or seconds < GAIN * best:
            chosen, best = form, seconds
    assert chosen is not None
    return replace(chosen, seconds=tuple(times))


def _forms(engine: Engine, precision: AskedPrecision) -> list[Form]:
    """Return the forms to try on ``engine``, the one that is kept in doubt first."""
    forms = []
    if precision != "bf16":
        forms.append(Form(engine.fused))
        if engine.fused == "auto":
            forms.append(Form("plain"))
    if precision != "float32" and engine.fused != "fused":
        forms.append(Form(engine.fused, "bf16"))
    if not forms:
        raise OcheError(
            "precision='bf16' computes with plain modules; use engine='auto' or 'plain', or precision='float32'"
        )
    return forms
