"""`oche doctor`: what this machine has, what was proved on it, how fast it is, and what to install.

Nothing here raises for a machine that lacks something. Every finding is a `Fact`; facts that stop oche from working are wrong.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from oche._version import __version__
from oche.bench.device_test import try_devices
from oche.bench.facts import Fact
from oche.core.cache_folders import CACHE_VARIABLE, cache_folder, folder_obstacle
from oche.core.environment import cpu_model, source_commit
from oche.core.errors import one_line, plural
from oche.core.extras import EXTRAS, install
from oche.core.memory import free_memory
from oche.kernels.cpu import build, self_test
from oche.kernels.triton.cell import refusal
from oche.proof import cache
from oche.proof.values import Proof, Verdict

INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
REQUIRED = (
    "numpy",
    "scikit-learn",
    "scipy",
    "matplotlib",
    "pillow",
    "pooch",
    "safetensors",
    "pyyaml",
    "jinja2",
    "rich",
    "tyro",
)
MODULES = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "pyyaml": "yaml",
}  # names for import that differ from the package's
USES = {
    "pyarrow": "parquet files", "onnx": "oche export", "onnxscript": "oche export", "onnxruntime": "oche export",
    "datasets": "data of the Hugging Face hub", "ray": "studies on Ray", "tensorboard": "TensorBoard",
    "triton": "kernels for GPUs", "pillow_heif": "HEIC images",
}  # fmt: skip
NEWEST = 12  # verdicts that are shown


def examine(quick: bool = False, say: Callable[[str], None] = lambda line: None) -> list[Fact]:
    """Return all facts, in the order in which they are shown. ``quick``: nothing is compiled, and no process is started."""
    facts: list[Fact] = []
    for part in (_software, _machine, _gpus, _caches, _packages):
        facts += part()
    facts += _kernels(quick, say)
    if not quick:
        facts += _devices(say)
    return [*facts, *_proved()]


# --- what there is ----------------------------------------------------------------------------------------------------


def _software() -> Iterator[Fact]:
    commit = source_commit()
    yield Fact("software", "oche", __version__ + (f", commit {commit[:12]}" if commit else ""))
    yield Fact("software", "python", f"{platform.python_version()}, {sys.executable}")
    kind = (
        f"CUDA {torch.version.cuda}"
        if torch.version.cuda
        else f"ROCm {torch.version.hip}"
        if torch.version.hip
        else "CPU only"
    )
    yield Fact("software", "torch", f"{torch.__version__}, {kind}")
    yield Fact("software", "system", platform.platform())


def _machine() -> Iterator[Fact]:
    flags = {*cache.processor_flags().split()}
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Fact(
        "machine",
        "processor",
        f"{cpu_model() or 'unknown'}, {plural(usable, 'core')}, torch uses {torch.get_num_threads()}",
    )
    yield Fact("machine", "instructions", " ".join(name for name in INSTRUCTIONS if name in flags) or "unknown")
    free = free_memory()
    yield Fact("machine", "memory", "unknown" if free is None else f"{free / 2**30:.1f} GiB free")
    try:
        yield Fact("machine", "compiler", build.compiler())
    except build.Unavailable as error:
        yield Fact(
            "machine",
            "compiler",
            one_line(error),
            "note",
            "install g++: searches on a CPU are several times as fast with it",
        )


def _gpus() -> Iterator[Fact]:
    seen = _nvidia()
    if not torch.cuda.is_available():
        if seen:
            yield Fact(
                "GPU", "driver", f"sees {', '.join(seen)}, and torch {torch.__version__} cannot use it", "wrong",
                "install a build of torch for CUDA: https://pytorch.org/get-started/locally/",
            )  # fmt: skip
        else:
            yield Fact("GPU", "none", "trainings at published sizes take weeks on a CPU", "note")
        return
    yield Fact("GPU", "driver", f"{cache.driver() or 'unknown'}, CUDA {torch.version.cuda}")
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        text = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, compute capability {gpu.major}.{gpu.minor}"
        yield Fact("GPU", f"cuda:{i}", text)
        if (why := refusal(torch.device("cuda", i))) is not None:
            yield Fact("GPU", "triton", why, "note", "pip install triton")


def _nvidia() -> list[str]:
    """Return the names of the GPUs that the NVIDIA driver sees."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def _caches() -> Iterator[Fact]:
    folder = cache_folder()
    if obstacle := folder_obstacle(folder):
        yield Fact(
            "caches",
            "oche",
            f"{folder}: {obstacle}",
            "wrong",
            f"set {CACHE_VARIABLE} to a folder that can be written and executed",
        )
        return
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free / 2**30
    kernels, proofs = len([*folder.glob("native/*.so")]), len([*folder.glob("proofs/*.json")])
    held = f"{plural(kernels, 'compiled file')}, {plural(proofs, 'proof')}"
    yield Fact("caches", "oche", f"{folder}: {held}, {free:.1f} GiB free, may execute")


def _packages() -> Iterator[Fact]:
    for package in REQUIRED:
        if find_spec(MODULES.get(package, package)) is None:
            yield Fact("packages", package, "missing, and oche needs it", "wrong", f"pip install {package}")
    for module in EXTRAS:
        if find_spec(module) is not None:
            yield Fact("packages", module, f"{_version(module)}, for {USES[module]}")
        elif module != "triton" or sys.platform == "linux":
            yield Fact("packages", module, f"missing, for {USES[module]}", "note", install([module]))


def _version(module: str) -> str:
    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return "installed"


# --- what works -------------------------------------------------------------------------------------------------------


def _kernels(quick: bool, say: Callable[[str], None]) -> Iterator[Fact]:
    """Facts on the compiled kernels: compiled and proved now, if they are not yet."""
    try:
        if quick and build.pending():
            yield Fact("proved", "compiled kernels", "not compiled yet; oche doctor compiles and proves them", "note")
            return
        if build.pending():
            say("compiling fast kernels, once for this machine: about 20 s")
        library = str(build.library())
    except build.Unavailable as error:
        yield Fact("proved", "compiled kernels", one_line(error), "note")
        return
    verdict = self_test.known_verdict(library)
    if verdict is None and quick:
        yield Fact("proved", "compiled kernels", "compiled, not proved yet; oche doctor proves them", "note")
        return
    if verdict is None:
        say("proving the kernels in a process of their own")
        verdict = self_test.new_verdict(library)
    proof = verdict.of("native")
    if proof is None:
        yield Fact("proved", "compiled kernels", f"nothing could be compared: {verdict.obstacle}", "wrong")
    elif not proof.agrees:
        yield Fact(
            "proved",
            "compiled kernels",
            proof.why,
            "wrong",
            "please report the line on compiled kernels; oche works without",
        )
    else:
        yield Fact("proved", "compiled kernels", _speed(verdict, proof))


def _devices(say: Callable[[str], None]) -> Iterator[Fact]:
    """Facts on the devices of torch: whether they compute what the CPU computes."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    if not names:
        return
    say(f"trying {', '.join(names)} in a process of its own")
    verdict = try_devices(names)
    if verdict.obstacle:
        yield Fact("proved", "devices", f"nothing could be compared: {verdict.obstacle}", "wrong")
    for proof in verdict.proofs:
        name = f"{proof.form.name} computes"
        if proof.agrees and proof.seconds:
            yield Fact("proved", name, f"a convolution as the CPU does, in {1000 * proof.seconds:.3g} ms")
        else:
            yield Fact(
                "proved", name, proof.why, "wrong", f"check the driver of {proof.form.name}, and the build of torch"
            )


def _proved() -> Iterator[Fact]:
    """Facts on the verdicts that are kept for this machine, the newest first."""
    here = [cache.describe_machine(torch.device("cpu"))]
    if torch.cuda.is_available():
        here += [cache.describe_machine(torch.device("cuda", i)) for i in range(torch.cuda.device_count())]
    verdicts = [
        v for v in cache.all_verdicts() if v.machine in here and v.title not in (self_test.TITLE, self_test.TITLE_BF16)
    ]
    for verdict in verdicts[:NEWEST]:
        best = verdict.fastest()
        said = "no form agrees" if best is None else f"{best.form.name}: {_speed(verdict, best)}"
        yield Fact("proved", verdict.title, "; ".join([said, *verdict.refusals()]))
    if len(verdicts) > NEWEST:
        yield Fact("proved", "more", f"{len(verdicts) - NEWEST} older proofs in {cache.folder()}")


def _speed(verdict: Verdict, proof: Proof) -> str:
    ratio = verdict.speedup(proof)
    times = "" if ratio is None or proof.form.name == "plain" else f", {ratio:.1f} × plain modules"
    return f"{1000 * (proof.seconds or 0):.3g} ms a step{times}"
