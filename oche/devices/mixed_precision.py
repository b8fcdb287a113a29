"""Convolutions in bfloat16, by torch's autocast; weights, their gradients, BatchNorms' statistics and losses stay float32.

Whether the gradients are right on the device at hand is tried before the first step (`oche.training.gradient_check`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from oche.core.errors import OcheError
from oche.devices.engine import Engine

Precision = Literal["float32", "bf16"]


def computing(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Within, forwards compute in ``precision``; what is float64 stays so."""
    if precision == "float32":
        return nullcontext()
    # Without the cache of cast weights: each is used once, and a CUDA graph must not read what an earlier step has cast.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def suited(engine: Engine, precision: Precision) -> Engine:
    """``engine`` as it computes in ``precision``: in bfloat16 with plain modules, since kernels for cells take none.

    Raises `OcheError` where those are asked for.
    """
    if precision == "float32":
        return engine
    if engine.fused == "fused":
        raise OcheError(
            "precision='bf16' computes with plain modules; use engine='auto' or 'plain', or precision='float32'"
        )
    return replace(engine, fused="plain")


def equip(engine: Engine, net: nn.Module, precision: Precision, *, twice: bool = False, mixed: bool = True) -> str:
    """`Engine.equip` of an engine that is `suited` to ``precision``."""
    said = engine.equip(net, twice=twice, mixed=mixed)
    if precision == "float32" or not said:
        return said
    return "as plain modules, convolutions in bfloat16: fused forms take none"
