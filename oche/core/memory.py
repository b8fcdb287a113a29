"""Main and GPU memory: how much is free, how much was used, whether an error means that it ran out, which batch fits."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

_OUT_OF_MEMORY_WORDS = (
    "can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED",
    "could not create a primitive", "could not create a memory",  # oneDNN's, which says no more
)  # fmt: skip
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


# --- free memory ------------------------------------------------------------------------------------------------------


def free_memory() -> int | None:
    """Return the bytes of main memory that can be taken without swapping; None where the system does not say (not Linux).

    Includes what Linux counts as available, within the limit of the process's control group (a container's limit).
    """
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    return min([free, *_left_in_control_group()])


def free_memory_or_estimate() -> int:
    """Return `free_memory`; where that is unknown half of the machine's memory, and 4 GB where even that is unknown."""
    free = free_memory()
    if free is not None:
        return free
    try:
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):  # not on Windows
        half = 4 * 10**9
    return min([half, *_left_in_control_group()])


def _left_in_control_group() -> list[int]:
    """Return [bytes left in the control group (version 2)], or [] without a limit.

    Page cache counts as used, so this errs on the safe side.
    """
    try:
        limit, used = ((_CGROUP / f"memory.{k}").read_text().strip() for k in ("max", "current"))
        return [max(0, int(limit) - int(used))]
    except (OSError, ValueError):  # no control group, or "max": no limit
        return []


def release_unused_memory() -> None:
    """Collect garbage and return the GPU memory that PyTorch caches to the device."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


# --- used memory ------------------------------------------------------------------------------------------------------


def peak_memory(device: str = "cpu") -> int | None:
    """Return the most bytes in use at any time; None where the system does not say.

    On a GPU this counts the tensors of this process, otherwise all main memory that the process held.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    # `resource` is only the fallback: on Linux its number includes the process that started this one.
    known = process_memory(os.getpid())
    return known[0] if known else _peak_by_resource()


def _peak_by_resource() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def process_memory(pid: int) -> tuple[int, int] | None:
    """Return (peak, current) bytes of main memory of process ``pid``; None if it has ended or the system does not say."""
    found = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmHWM", "VmRSS"):
                found[name] = 1024 * int(value.split()[0])
        return found["VmHWM"], found["VmRSS"]
    except (OSError, KeyError):
        return None


# --- running out of memory --------------------------------------------------------------------------------------------


def out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` means that memory ran out. On a GPU torch has a type for it, on a CPU only messages."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)


def largest_fitting_batch(batch: int, attempt: Callable[[int], object]) -> int | None:
    """Return a batch size below ``batch`` (which did not fit) that fits in memory; None if not even 2 fit.

    ``attempt(n)`` tries a batch of n and raises when memory runs out. The size is halved until one fits; then the middle
    between that size and the last that did not fit is tried once.
    """
    fits = batch // 2
    while fits >= 2 and not _fits(fits, attempt):
        batch, fits = fits, fits // 2
    if fits < 2:
        return None
    between = (fits + batch) // 2
    return between if fits < between < batch and _fits(between, attempt) else fits


def _fits(batch: int, attempt: Callable[[int], object]) -> bool:
    """Tell whether ``attempt(batch)`` fits in memory. Unused memory is released before it."""
    release_unused_memory()
    try:
        attempt(batch)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return False
    return True
