"""Memory: how much was used, whether an error means that it ran out, and which batch would fit."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

_SIGNS = (
    "can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED",
    "could not create a primitive", "could not create a memory",  # oneDNN's, which says no more
)  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: torch has a type for it on GPUs, and only words on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def peak(device: str = "cpu") -> int | None:
    """Most bytes in use at any time: of a GPU those of this process's tensors, else all that this process held in memory.

    None where the system does not tell.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    known = usage(os.getpid())  # what `resource` tells on Linux includes the process that started this one
    return known[0] if known else _peak_elsewhere()


def _peak_elsewhere() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def usage(pid: int) -> tuple[int, int] | None:
    """(most, now): bytes that a process has held in memory at any time, and holds. None where the system does not tell."""
    found = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmHWM", "VmRSS"):
                found[name] = 1024 * int(value.split()[0])
        return found["VmHWM"], found["VmRSS"]
    except (OSError, KeyError):  # another system, or it has ended
        return None


def available() -> int | None:
    """Bytes that can be taken without swapping, within the limit of this process's control group if it has one."""
    if sys.platform != "linux":
        return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    return min([free, *_group_limit()])


def _group_limit() -> list[int]:
    """Bytes left within the control group (version 2); [] for no limit."""
    root = Path("/sys/fs/cgroup")
    try:
        limit, used = (root / "memory.max").read_text().strip(), int((root / "memory.current").read_text())
        return [] if limit == "max" else [max(0, int(limit) - used)]
    except (OSError, ValueError):
        return []


def fitting(batch: int, attempt: Callable[[int], object]) -> int | None:
    """A batch below ``batch``, which did not fit, that does: ``attempt(n)`` tries n images. None where not even 2 fit.

    It halves until a batch fits, then looks once between that one and the last that did not.
    """
    fits = batch // 2
    while fits >= 2 and not _fits(fits, attempt):
        batch, fits = fits, fits // 2
    if fits < 2:
        return None
    between = (fits + batch) // 2
    return between if fits < between < batch and _fits(between, attempt) else fits


def _fits(batch: int, attempt: Callable[[int], object]) -> bool:
    """Whether an attempt succeeds. What it leaves behind is freed, before and after."""
    release()
    try:
        attempt(batch)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return False
    return True


def release() -> None:
    """Gives memory back that nothing uses any more."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
