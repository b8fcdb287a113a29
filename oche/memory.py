"""Memory: how much was used, whether an error means that it ran out, and which batch would fit."""

from __future__ import annotations

import gc
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
    try:  # what `resource` tells on Linux includes the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return _peak_elsewhere()


def _peak_elsewhere() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


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
