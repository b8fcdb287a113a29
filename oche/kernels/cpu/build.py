"""Compile and load the C++ kernels of the native form, once for each machine, compiler, and version of torch and oche.

They are kept in `oche.core.cache_folders.cache_folder`, which the environment variable OCHE_CACHE moves.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from oche.core.cache_folders import CACHE_VARIABLE, cache_folder, execution_obstacle, folder_obstacle
from oche.core.errors import OcheError, one_line

SOURCES = Path(__file__).with_name("csrc")
LIMIT = 900  # timeout of the compiler, in seconds
UNITS = (
    ("node.cpp", "float"), ("cell.cpp", "float"), ("node.cpp", "double"), ("cell.cpp", "double"), ("module.cpp", ""),
)  # fmt: skip
"""what is compiled side by side: a file, and the type of numbers that it is compiled for"""


class Unavailable(OcheError):
    """The compiled kernels are not available here; the message says why."""


def pending() -> bool:
    """Whether `load` would compile first, which takes about 20 seconds."""
    try:
        target = _library_path(compiler())
        return not target.exists() and not folder_obstacle(target.parent)
    except (Unavailable, OSError):
        return False


def library() -> Path:
    """Return the file of the compiled kernels; compile it if necessary. Raises `Unavailable`."""
    program = compiler()
    target = _library_path(program)
    if not target.exists():
        if obstacle := folder_obstacle(target.parent):
            raise Unavailable(_move(target.parent, obstacle))
        _compile(program, target)
    return target


@cache
def load() -> None:
    """Make ``torch.ops.oche_native`` available; compile it if necessary. Raises `Unavailable`."""
    target = library()
    try:
        torch.ops.load_library(str(target))
    except OSError as error:
        if obstacle := execution_obstacle(target.parent):
            raise Unavailable(_move(target.parent, obstacle)) from error
        raise Unavailable(
            f"compiled kernels {target} cannot be loaded ({error}); delete the file to compile them again"
        ) from error


def compiler() -> str:
    """Return the C++ compiler: $CXX, else the first of g++, c++ and clang++. Raises `Unavailable`."""
    if sys.platform == "win32":
        raise Unavailable("compiled kernels are not available on Windows")
    asked = os.environ.get("CXX")
    found = shutil.which(asked) if asked else next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)
    if found is None:
        what = f"CXX={asked} is no program" if asked else "there is no g++, c++ or clang++ on the path"
        raise Unavailable(f"compiled kernels need a C++ compiler: {what}; install g++, or set CXX")
    return found


def _move(folder: Path, obstacle: str) -> str:
    return f"compiled kernels cannot be kept in {folder}: {obstacle}; set {CACHE_VARIABLE} to a folder on another disk"


def _library_path(compiler: str) -> Path:
    return cache_folder() / "native" / f"native-{_build_key(compiler)}.so"


def _build_key(compiler: str) -> str:
    """Hash everything the compiled file depends on. Machines with different processors may share a home directory."""
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
    return ["-O3", "-march=native", "-std=c++20", "-fPIC", "-fopenmp", "-w"]


def _compile(compiler: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Compile in a folder beside the target and move the file there, so that no process loads half a file. Processes that
        # start together wait for the first one.
        with _exclusive(target.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=target.parent) as folder:
            if target.exists():
                return
            objects = [Path(folder) / f"{file.rsplit('.')[0]}-{number}.o" for file, number in UNITS]
            with ThreadPoolExecutor(len(UNITS)) as pool:  # each waits for a compiler of its own
                list(pool.map(lambda unit, made: _compile_unit(compiler, unit[0], unit[1], made), UNITS, objects))
            made = Path(folder) / target.name
            libraries = [word for path in _library_paths() for word in (f"-L{path}", f"-Wl,-rpath,{path}")]
            _run(
                [compiler, *_flags(), "-shared", *map(str, objects), *libraries, "-ltorch", "-ltorch_cpu", "-lc10"],
                made,
            )
            made.replace(target)
    except OSError as error:
        raise Unavailable(_move(target.parent, one_line(error))) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"the kernels cannot be compiled: {error}") from error


def _compile_unit(compiler: str, file: str, number: str, made: Path) -> None:
    """Compile ``file`` for the type ``number`` ("" for a file of all types) to the object ``made``."""
    from torch.utils.cpp_extension import include_paths

    command = [compiler, *_flags(), "-c", str(SOURCES / file), *([f"-DNUMBER={number}"] if number else [])]
    command.append(f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}")
    _run(command + [f"-isystem{path}" for path in include_paths()], made)


def _library_paths() -> list[str]:
    from torch.utils.cpp_extension import library_paths

    return library_paths()


def _run(command: list[str], made: Path) -> None:
    done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, timeout=LIMIT)
    if done.returncode:
        raise Unavailable(f"{command[0]} does not compile the kernels: {_first_error(done.stderr)}")


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Within, no other process holds the lock. The system releases it when a process ends in any way."""
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if "error" in line]
    said = (lines or output.strip().splitlines() or ["it said nothing"])[0][:300]
    full = any(words in output for words in ("No space left", "Disk quota exceeded", "Read-only file system"))
    return f"{said}; set {CACHE_VARIABLE}, and TMPDIR, to folders on a disk with space" if full else said
