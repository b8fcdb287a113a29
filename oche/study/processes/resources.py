"""How many processes fit on this machine, by its processor cores or GPUs and by the memory that they use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from oche.core.memory import free_memory, process_memory

Slot = Mapping[str, str]  # the environment variables of the process in it


class ResourcePool:
    """The slots for processes; ``slots`` has one for each process that may run at a time.

    With ``measured``, memory counts too. The first process runs alone until its peak memory is known. Another one starts if
    the largest peak so far (``need`` bytes) is free, beside the memory that the running processes may still take. On systems
    that do not report memory (all but Linux), only the slots count.
    """

    def __init__(self, slots: Sequence[Slot], measured: bool = False, need: int = 0) -> None:
        if not slots:
            raise ValueError("no slots: nothing could run; give at least one, {}")
        self.slots, self.measured, self.need = [*slots], measured, need

    def free_slot(self, taken: Sequence[Slot], processes: Mapping[int, float]) -> Slot | None:
        """Return a free slot, or None if another process would not fit.

        ``taken`` lists the slots in use. ``processes`` maps the pid of each running process to its progress in [0, 1]; a
        process at 0 has not yet shown its peak memory.
        """
        left = [*self.slots]
        for slot in taken:
            left.remove(slot)
        if not left or (self.measured and processes and not self._fits(processes)):
            return None
        return left[0]

    def _fits(self, processes: Mapping[int, float]) -> bool:
        free = free_memory()
        used = {pid: process_memory(pid) for pid in processes}
        if free is None or not any(used.values()):
            return True
        seen = [known[0] for pid, known in used.items() if known and processes[pid] > 0]
        self.need = max([self.need, *seen])
        if not self.need:
            return False
        growing = sum(max(0, self.need - known[1]) for known in used.values() if known)
        return free - growing >= self.need


def core_slots(threads: int, jobs: int | None = None) -> list[Slot]:
    """``jobs`` slots; by default as many as there are groups of ``threads`` cores."""
    return [{}] * (jobs or max(1, usable_cores() // threads))


def gpu_slots(share: float, jobs: int | None = None) -> list[Slot]:
    """At most ``jobs`` slots on the GPUs of this machine, one GPU after the other; a process takes ``share`` of a GPU."""
    each = max(1, int(1 / share + 1e-9))
    slots: list[Slot] = [{"CUDA_VISIBLE_DEVICES": name} for _ in range(each) for name in _visible()]
    return slots[:jobs]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _visible() -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count, names = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name for name in names.split(",") if name][:count] or [str(i) for i in range(count)]
