"""Errors that mean too little memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from oche.core.errors import OcheError
from oche.core.memory import out_of_memory, peak_memory


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (RuntimeError("a bug"), False),
        (OcheError("out of memory"), False),
        (KeyError("out of memory"), False),
    ],
)
def test_errors_that_mean_too_little_memory(error, is_one):
    assert out_of_memory(error) == is_one


# --- memory, kernels


def test_peak_memory_is_that_of_the_process():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux tells the memory in use")
    before = peak_memory()
    used = 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    block = mmap.mmap(-1, before - used + 2**26)  # new pages: an allocator may hold free ones, which count as used
    torch.frombuffer(block, dtype=torch.uint8).fill_(1)
    assert 2**25 < peak_memory() - before < 2**27
    del block
    assert peak_memory() - before > 2**25  # the most at any time
