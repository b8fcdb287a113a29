"""The child process of a proof: `python -m oche.proof.child FOLDER`.

It reads FOLDER/step.json, builds the step in each form, and writes a line to FOLDER/found.jsonl when it begins and when it has
finished a form. If it dies or hangs, the last line names the form that did it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oche.core.errors import OcheError, one_line
from oche.core.memory import out_of_memory, release_unused_memory
from oche.proof.compare import disagreement, errors, largest
from oche.proof.values import Bounds, Evidence, Proof, ProvableStep, StepForm

REFERENCE = "reference"  # the name of the plain float32 step
TIMED, LONGEST = (2, 20), 1.0  # least and most timed steps, and the seconds after which no more are timed
SLOW = 2.0  # seconds of a step of which one is enough
ROUNDING = 1e-7  # relative size of the change of all weights that tells how far rounding alone moves a step
Maker = Callable[[dict[str, Any], StepForm | None], ProvableStep]


def main(folder: Path) -> None:
    """Prove the forms that FOLDER/step.json names, up to the first one that raises.

    An error may leave the device unusable, so another process tries the forms after it.
    """
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    task = json.loads((folder / "step.json").read_text())
    sys.path[:0] = [path for path in task["sys_path"] if path not in sys.path]
    module, _, name = task["maker"].partition(":")
    bounds, forms = Bounds(**task["bounds"]), [StepForm(**form) for form in task["forms"]]
    note = _writer(folder / "found.jsonl")
    note(begin=REFERENCE)
    make: Maker = getattr(import_module(module), name)
    reference = _reference(make, task, folder)
    note(reference=True)
    noise: dict[str, float] = reference["noise"]
    for form in forms:
        note(begin=form.name)
        proof, raised = _prove(make, task["settings"], form, reference, bounds, noise)
        if form.name == "plain" and proof.errors:
            noise = largest(noise, proof.errors)
            torch.save({**reference, "noise": noise}, folder / "reference.pt")
        note(proof=asdict(proof))
        if raised:
            return
        release_unused_memory()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _writer(path: Path) -> Callable[..., None]:
    def write(**line: Any) -> None:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    return write


def _reference(make: Maker, task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return states, evidence and time of the reference; from the file of an earlier child, if there is one."""
    file = folder / "reference.pt"
    if file.exists():
        return torch.load(file, weights_only=True)
    step = make(task["settings"], None)
    states: list[dict[str, Tensor]] = []
    found: list[Evidence] = []
    for i in range(task["steps"]):
        states.append(step.state())
        step.take(i)
        found.append({group: dict(tensors) for group, tensors in step.evidence().items()})
    seconds = _time(step, task["steps"]) if task["plain"] else None
    known: dict[str, Any] = {"states": states, "evidence": found, "seconds": seconds, "memory": step.memory()}
    del step
    known["noise"] = _noise(make(task["settings"], None), states, found)
    release_unused_memory()
    torch.save(known, file.with_suffix(".tmp"))
    file.with_suffix(".tmp").replace(file)
    return known


def _noise(step: ProvableStep, states: list[dict[str, Tensor]], found: list[Evidence]) -> dict[str, float]:
    """Return the errors of the reference itself when what it reads is changed by as much as rounding changes it.

    A deep network may amplify rounding: another order of sums moves inputs across the kinks of ReLUs.
    """
    generator, worst = torch.Generator().manual_seed(0), dict[str, float]()
    for i, (state, expected) in enumerate(zip(states, found, strict=True)):
        step.set_state({name: _rounded(t, generator) for name, t in state.items()})
        step.take(i)
        worst = largest(worst, errors(step.evidence(), expected))
    return worst


def _rounded(t: Tensor, generator: torch.Generator) -> Tensor:
    if not t.is_floating_point() or not t.dim():
        return t
    return t * (1 + ROUNDING * torch.randn(t.shape, generator=generator, dtype=torch.float32).to(t.dtype))


def _prove(
    make: Maker,
    settings: dict[str, Any],
    form: StepForm,
    reference: dict[str, Any],
    bounds: Bounds,
    noise: dict[str, float],
) -> tuple[Proof, bool]:
    """Return the proof of ``form``, and whether an error was raised that may have harmed the device."""
    if form.name == "plain" and reference["seconds"] is not None:
        return Proof(form, True, reference["seconds"], reference["memory"]), False
    try:
        step, worst = make(settings, form), dict[str, float]()
        for i, (state, expected) in enumerate(zip(reference["states"], reference["evidence"], strict=True)):
            step.set_state(state)
            step.take(i)
            worst = largest(worst, errors(step.evidence(), expected))
            if why := step.obstacle():
                return Proof(form, False, why=why), False
        own = {} if form.name == "plain" else noise
        # Without bounds of its own nothing would be left to fall back on: the plain form must be finite, no more.
        finite = form.name == "plain" and all(map(isfinite, worst.values()))
        why = "" if finite else disagreement(worst, bounds, own)
        seconds = None if why else _time(step, len(reference["states"]))
        why = why or step.obstacle()
        return Proof(form, not why, seconds, step.memory(), worst, why), False
    except OcheError as error:
        return Proof(form, False, why=one_line(error)[:300]), False
    except Exception as error:
        short = out_of_memory(error)
        text = "out of memory" if short else f"{type(error).__name__}: {one_line(str(error).strip().split(chr(10))[0])}"
        return Proof(form, False, why=text[:300], passing=short), True


def _time(step: ProvableStep, first: int) -> float:
    """Return the median time of a step in seconds."""
    times: list[float] = []
    while (len(times) < TIMED[0] and sum(times) < SLOW) or (len(times) < TIMED[1] and sum(times) < LONGEST):
        began = time.perf_counter()
        step.take(first + len(times))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # a device that an error has harmed may hang or crash when libraries are unloaded
