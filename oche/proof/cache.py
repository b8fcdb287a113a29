"""Keep verdicts between runs, each for the machine, the versions and the step that it was made for."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from oche._version import __version__
from oche.core.atomic_files import Unwritten, parse_json, to_json, write_bytes
from oche.core.cache_folders import cache_folder
from oche.core.environment import cpu_model
from oche.proof.values import Step, StepForm, Verdict

AGAIN = 86400.0  # seconds after which a failure that may pass is tried again
KERNELS = Path(__file__).parents[1] / "kernels"
DRIVER = Path("/proc/driver/nvidia/version")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the facts of this machine and its software for which a verdict holds."""
    facts: dict[str, Any] = {"oche": __version__, "kernels": _sources(), "torch": torch.__version__}
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return {**facts, "gpu": gpu.name, "memory": gpu.total_memory, "driver": driver(), "cuda": torch.version.cuda}
    return {**facts, "cpu": cpu_model(), "instructions": digest(processor_flags())}


def driver() -> str | None:
    """Return the version of the NVIDIA driver, None if there is none."""
    try:
        found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", DRIVER.read_text())
    except OSError:
        return None
    return found and found[1]


def processor_flags() -> str:
    """Return the instruction sets of the processor, as Linux lists them; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(("flags", "Features"))), "")


@cache
def _sources() -> str:
    """Return a hash of the sources of the kernels, which a checkout changes without a new version."""
    files = sorted(file for file in KERNELS.rglob("*") if file.suffix in (".py", ".cpp", ".h"))
    return digest(*(file.read_text(encoding="utf-8") for file in files))


def digest(*parts: str) -> str:
    """Return a short hash of ``parts``, for the name of a file."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def folder() -> Path:
    """Return the folder of all verdicts."""
    return cache_folder() / "proofs"


def place(step: Step, forms: Sequence[StepForm], machine: Mapping[str, Any]) -> Path:
    """Return the file of the verdict on ``forms`` of ``step`` on ``machine``."""
    known = [asdict(step), [asdict(form) for form in forms], dict(machine)]
    return folder() / f"{digest(json.dumps(known, sort_keys=True, default=str))}.json"


def recall(step: Step, forms: Sequence[StepForm], machine: Mapping[str, Any]) -> Verdict | None:
    """Return the verdict that is kept, None if there is none that holds: missing, damaged, of another machine or version, or
    with a failure that may have passed.
    """
    found = read(place(step, forms, machine))
    if found is None or dict(found.machine) != dict(machine) or found.title != step.title:
        return None
    if [proof.form for proof in found.proofs] != [*forms] and not found.obstacle:
        return None
    if found.passing and time.time() - found.time > AGAIN:
        return None
    return found


def read(file: Path) -> Verdict | None:
    """Return the verdict in ``file``, None if there is none or it is damaged."""
    try:
        tree = parse_json(file.read_bytes())
        return Verdict.from_dict(tree) if isinstance(tree, dict) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(
    step: Step, forms: Sequence[StepForm], machine: Mapping[str, Any], verdict: Verdict
) -> tuple[Verdict, str]:
    """Keep ``verdict``. Return it with its machine, and in one line why it could not be kept; "" if it was.

    A verdict without a comparison is not kept.
    """
    verdict = replace(verdict, machine=dict(machine))
    if verdict.obstacle:
        return verdict, ""
    file = place(step, forms, machine)
    try:
        write_bytes(file, to_json(verdict.to_dict(), 1).encode())
    except Unwritten as error:
        return verdict, f"the proof is made again in the next run ({str(error).partition(';')[0]})"
    return verdict, ""


def all_verdicts() -> Iterator[Verdict]:
    """Yield the verdicts that are kept, the newest first."""
    found = [verdict for file in folder().glob("*.json") if (verdict := read(file)) is not None]
    yield from sorted(found, key=lambda verdict: -verdict.time)
