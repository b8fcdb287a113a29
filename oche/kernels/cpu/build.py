"""Builds and loads the C++ kernels of the native form, once for each machine, compiler and version of torch and of oche."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from oche.core.errors import OcheError

SOURCES = Path(__file__).with_name("csrc")
LIMIT = 300  # seconds that a compiler may take


class Unavailable(OcheError):
    """The kernels cannot be had here; the message says why."""


def pending() -> bool:
    """Whether `load` would compile first, which takes about 20 seconds."""
    try:
        return not _target(_compiler()).exists()
    except Unavailable:
        return False


@cache
def load() -> None:
    """Makes ``torch.ops.oche_native`` available; compiles it where that has not been done. Raises `Unavailable`."""
    compiler = _compiler()
    target = _target(compiler)
    if not target.exists():
        _compile(compiler, target)
    try:
        torch.ops.load_library(str(target))
    except OSError as error:
        raise Unavailable(
            f"compiled kernels {target} do not load ({error}); delete the file to have them made anew"
        ) from error


def _compiler() -> str:
    if sys.platform == "win32":
        raise Unavailable("compiled kernels are not made on Windows")
    asked = os.environ.get("CXX")
    found = shutil.which(asked) if asked else next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)
    if found is None:
        what = f"CXX={asked} is no program" if asked else "no C++ compiler (g++, c++, clang++) is on the path"
        raise Unavailable(f"compiled kernels need one, and {what}; install g++, or set CXX")
    return found


def _target(compiler: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "oche" / "native" / f"native-{_key(compiler)}.so"


def _key(compiler: str) -> str:
    """What the compiled file depends on: a home directory may be shared by machines of different processors."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    sources = [file.read_text() for file in sorted(SOURCES.iterdir())]
    parts = [*sources, torch.__version__, version, _processor(), " ".join(_flags())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        import platform

        return platform.processor() or platform.machine()
    return next((line for line in lines if line.startswith("flags") or line.startswith("Features")), "")


def _flags() -> list[str]:
    return ["-O3", "-march=native", "-std=c++20", "-fPIC", "-shared", "-fopenmp", "-w"]


def _compile(compiler: str, target: Path) -> None:
    from torch.utils.cpp_extension import include_paths, library_paths

    words = [
        compiler,
        *_flags(),
        str(SOURCES / "module.cpp"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
    ]
    words += [f"-isystem{path}" for path in include_paths()]
    words += [word for path in library_paths() for word in (f"-L{path}", f"-Wl,-rpath,{path}")]
    words += ["-ltorch", "-ltorch_cpu", "-lc10"]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target and then moved there, so that nobody ever loads half a file; processes that start together wait
        # for the first one's.
        with _alone(target.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=target.parent) as folder:
            if target.exists():
                return
            made = Path(folder) / target.name
            done = subprocess.run([*words, "-o", str(made)], capture_output=True, text=True, timeout=LIMIT)
            if done.returncode:
                raise Unavailable(f"{compiler} does not compile the kernels: {_first_error(done.stderr)}")
            made.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the kernels cannot be compiled: {error}") from error


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Within, no other process is here; the system releases it when a process ends, however it ends."""
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _first_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if "error" in line]
    return (lines or said.strip().splitlines() or ["it said nothing"])[0][:300]
