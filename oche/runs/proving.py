"""Choose the form of a run's steps by proof: before a run, its fast forms are tried in a child process.

The parent takes the fastest form that agrees with plain modules in float32, and keeps the verdict. See `oche.proof`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from oche.core.config.serialize import to_dict
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.data import Dataset
from oche.devices.engine import Engine, ProvedForm
from oche.kernels.cpu.build import Unavailable
from oche.kernels.cpu.self_test import check_native, check_native_bf16
from oche.methods.recipe import SearchRecipe
from oche.proof import cache
from oche.proof.mode import proof_mode
from oche.proof.prove import Stopped, prove
from oche.proof.values import BF16, FLOAT32, Proof, Step, StepForm, Verdict
from oche.runs.checkpoint import latest_step
from oche.runs.config import SearchConfig
from oche.runs.directory import RunDir
from oche.runs.membership import ENVIRONMENT
from oche.runs.plan import Plan
from oche.runs.provable_steps import settings_of
from oche.training.image_recipes import Recipe

RECORD = "proof"  # key of environment.json
LONG = 200_000  # images, over all steps: shorter runs are over before a proof has paid
LONG_TIME = 600.0  # seconds: shorter budgets likewise
SMALL_BATCH = 4  # images of the batch in which a CPU tries kernels: more take longer and run the same code
MARGIN = {"cuda": 0.05, "cpu": 0.33}  # on a CPU noise of the clock must not decide, so that runs can be repeated

PLAIN = StepForm("plain", about="plain modules")
ON_CPU = {
    "native": StepForm("native", "native", about="fused, on compiled kernels"),
    "shared": StepForm("shared", "shared", about="fused, in pure torch"),
}
ON_CUDA = {
    "graph": StepForm("graph", graph=True, about="plain modules, steps replayed from CUDA graphs"),
    "shared": StepForm("shared", "shared", about="fused, in pure torch"),
    "graph-shared": StepForm("graph-shared", "shared", True, "fused, in pure torch, steps replayed from CUDA graphs"),
    "triton": StepForm("triton", "gpu", about="fused, on Triton's kernels"),
    "graph-triton": StepForm(
        "graph-triton", "gpu", True, "fused, on Triton's kernels, steps replayed from CUDA graphs"
    ),
}


def with_proved_form(run: RunDir, plan: Plan, engine: Engine, log: Log, stopped: Callable[[], bool]) -> Engine:
    """Return ``engine`` with the form that was proved for the steps of ``plan``, and record it in the run's environment.json.

    Nothing changes where the user chose an engine, for text, for several ranks, and for a run that began without a record. A
    resumed run keeps its form on the same machine. ``stopped``: whether the user asked to stop.
    """
    device = engine.device.type
    image_run = isinstance(plan.data, Dataset) and isinstance(_recipe(plan), SearchRecipe | Recipe)
    if engine.fused != "auto" or device not in MARGIN or not image_run or engine.processes.is_distributed:
        return engine
    machine, environment = cache.describe_machine(engine.device), run.read_json(ENVIRONMENT)
    if isinstance(kept := environment.get(RECORD), dict) and kept.get("machine") == machine:
        proved = _recorded(kept)
        return engine if proved is None else replace(engine, proved=proved)
    if kept is None and latest_step(run.path / "checkpoints") is not None:
        return engine  # begun by an earlier version, or when nothing was proved
    verdict = _verdict(plan, engine, machine, log, stopped)
    proved = None if verdict is None else _proved(verdict, device)
    if verdict is not None:
        form = (
            None
            if proved is None
            else {"name": proved.name, "flow": proved.flow, "graph": proved.graph, "why": proved.why}
        )
        run.write_json(ENVIRONMENT, environment | {RECORD: {"machine": machine, "form": form, **_numbers(verdict)}})
    return engine if proved is None else replace(engine, proved=proved)


def step_of(plan: Plan, engine: Engine) -> tuple[Step, list[StepForm]]:
    """Return the step of ``plan`` and the forms it may be computed in, in the order of preference. Raises `OcheError`."""
    recipe, device = _recipe(plan), engine.device.type
    settings = settings_of(plan.config, plan.data, to_dict(plan.config), str(engine.device))
    bf16 = recipe.precision == "bf16"
    forms = _forms(recipe, device, bf16)
    if device == "cpu":
        settings["threads"] = engine.threads or torch.get_num_threads()
        part = settings["config"][settings["kind"]]
        small = max(SMALL_BATCH, 2 * part.get("accumulate", 1))
        part["batch"] = min(part["batch"], small)
    kind = (
        f"search ({plan.config.method})"
        if isinstance(plan.config, SearchConfig)
        else f"training ({plan.config.recipe})"
    )
    title = f"{kind}, batch {recipe.batch}, {settings['image'][0]}x{settings['image'][1]}{', bf16' if bf16 else ''}"
    graphs = any(form.graph for form in forms)
    step = Step(
        "oche.runs.provable_steps:make", settings, title, plain=device == "cpu" and not bf16, steps=6 if graphs else 2,
        bounds=BF16 if bf16 else FLOAT32,
    )  # fmt: skip
    return step, forms


def _forms(recipe: SearchRecipe | Recipe, device: str, bf16: bool) -> list[StepForm]:
    searches = isinstance(recipe, SearchRecipe)
    twice = searches and recipe.method.hypergrad.twice
    if device == "cpu":
        fast = ["shared"] if twice else _compiled(bf16)
        if bf16 and searches:
            fast = []
        return [*(ON_CPU[name] for name in fast), PLAIN]
    if bf16 or not searches:  # fused forms take no bfloat16, and discrete cells share little
        return [PLAIN, ON_CUDA["graph"]]
    mixes = recipe.method.relax.mixes
    names = ["graph", "shared"] + (["graph-shared"] if mixes else [])
    names += [] if twice else ["triton"] + (["graph-triton"] if mixes else [])
    return [PLAIN, *(ON_CUDA[name] for name in names)]


def _compiled(bf16: bool) -> list[str]:
    """Return the name of the compiled form, if kernels can be compiled here and passed their own test."""
    try:
        check_native_bf16() if bf16 else check_native()
    except Unavailable:
        return []
    return ["native"]


def _recipe(plan: Plan) -> Any:
    return plan.config.search if isinstance(plan.config, SearchConfig) else plan.config.train


def _verdict(
    plan: Plan, engine: Engine, machine: dict[str, Any], log: Log, stopped: Callable[[], bool]
) -> Verdict | None:
    """Return the verdict that is kept, or a new one where the run is long enough; None if there is none."""
    try:
        step, forms = step_of(plan, engine)
    except OcheError as error:  # components that no file can name
        log.say(f"no form is tried before the run: {error}")
        return None
    found = cache.recall(step, forms, machine)
    if found is not None or len(forms) < 2 or not worth_proving(plan):
        return found
    where = machine.get("gpu") or machine.get("cpu") or engine.device.type
    log.say(f"trying {len(forms)} forms of a step on {where}, once for such steps; no budget counts it")
    try:
        verdict = prove(step, forms, stopped=stopped)
    except Stopped:
        return None
    verdict, unkept = cache.remember(step, forms, machine, verdict)
    for line in filter(
        None, [verdict.obstacle and f"no form could be tried: {verdict.obstacle}", *verdict.refusals(), unkept]
    ):
        log.say(f"proof: {line}")
    return verdict


def worth_proving(plan: Plan) -> bool:
    """Whether a run is long enough for a proof, or the environment variable OCHE_PROOF asks for one."""
    mode = proof_mode()
    if mode != "auto":
        return mode == "always"
    recipe = _recipe(plan)
    length = recipe.length
    if length.seconds is not None:
        return length.seconds >= LONG_TIME
    images = recipe.split * len(plan.data.train)
    return (length.steps * recipe.batch if length.steps is not None else length.epochs * images) >= LONG


def _proved(verdict: Verdict, device: str) -> ProvedForm | None:
    """Return the form that a verdict chooses, None if nothing could be compared."""
    best = verdict.fastest(MARGIN[device])
    if best is None:
        return None if verdict.obstacle else ProvedForm("plain", why="as plain modules: no form passed the proof")
    return ProvedForm(best.form.name, best.form.flow, best.form.graph, _why(verdict, best))


def _why(verdict: Verdict, best: Proof) -> str:
    ratio = verdict.speedup(best)
    times = (
        ""
        if ratio is None or ratio < 1.05 or best.form.name == "plain"
        else f", {ratio:.1f} times as fast as plain modules"
    )
    text = best.form.about if best.form.flow != "plain" else f"as {best.form.about}"
    refused = [p for p in verdict.proofs if not p.agrees]
    others = f"; not accepted: {', '.join(p.form.name for p in refused)}" if refused else ""
    return f"{text} (proved here{times}{others})"


def _recorded(kept: dict[str, Any]) -> ProvedForm | None:
    """Return the form in a record, None if it names none or is damaged."""
    try:
        return ProvedForm(**kept["form"])
    except (KeyError, TypeError):
        return None


def _numbers(verdict: Verdict) -> dict[str, Any]:
    """Return times and errors of a verdict for the record of a run."""
    forms = {
        p.form.name: {"agrees": p.agrees, "seconds": p.seconds, "errors": dict(p.errors), "why": p.why}
        for p in verdict.proofs
    }
    return {"step": verdict.title, "forms": forms, "obstacle": verdict.obstacle}
