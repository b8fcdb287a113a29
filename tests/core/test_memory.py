"""Errors that mean too little memory."""

import pytest
import torch

from oche.core.errors import OcheError
from oche.core.memory import out_of_memory


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
