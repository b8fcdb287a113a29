"""Convolutions in bfloat16 by torch's autocast. Weights, their gradients, BatchNorm statistics and losses stay in
float32.

Before the first step, `oche.training.gradient_check` tests whether the gradients are right on this device.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from oche.core.errors import OcheError
from oche.devices.engine import Engine
from oche.kernels.cpu.build import Unavailable
from oche.kernels.cpu.self_test import check_native_bf16

Precision = Literal["float32", "bf16"]


def precision_context(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Within, forward passes compute in ``precision``. Float64 tensors stay float64."""
    if precision == "float32":
        return nullcontext()
    # No cache of cast weights: each is used once, and a CUDA graph must not read a cast of an earlier step.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def with_precision(engine: Engine, precision: Precision, *, mixed: bool = True) -> Engine:
    """Return ``engine`` adapted to ``precision``. ``mixed``: for networks whose edges have several candidates.

    For bfloat16 it computes with plain modules, because fused kernels have no bfloat16, except those for discrete cells on
    processors that multiply it. Raises `OcheError` if the engine asks for fused kernels where there are none.
    """
    if precision == "float32" or (not mixed and engine.fused != "plain" and _bf16_obstacle(engine) == ""):
        return engine
    if engine.fused == "fused":
        raise OcheError(
            "precision='bf16' computes with plain modules; use engine='auto' or 'plain', or precision='float32'"
        )
    return replace(engine, fused="plain")


def apply_precision(
    engine: Engine, net: nn.Module, precision: Precision, *, twice: bool = False, mixed: bool = True
) -> str:
    """Call `Engine.apply_form` of an engine from `with_precision`; return the form, and why."""
    reason = engine.apply_form(net, twice=twice, mixed=mixed)
    if precision == "float32" or not reason:
        return reason
    if engine.fused == "plain":
        return "as plain modules, convolutions in bfloat16: fused forms take none"
    return f"{reason}, products in bfloat16"


def _bf16_obstacle(engine: Engine) -> str:
    """Return why the compiled kernels cannot multiply bfloat16 numbers here, "" if they can."""
    if engine.device.type != "cpu" or engine.dtype != torch.float32:
        return "only compiled kernels on a CPU multiply bfloat16 numbers"
    try:
        check_native_bf16()
    except Unavailable as error:
        return str(error)
    return ""
