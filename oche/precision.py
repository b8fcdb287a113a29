"""Convolutions in bfloat16: torch's autocast, and the proof that its gradients are right on the device at hand.

Weights, their gradients, BatchNorm's statistics and losses stay float32.

Measured with torch 2.13.0 on an AMD EPYC CPU: the weight gradient of a dilated depthwise convolution in channels_last is read
from memory that nobody wrote, relative errors up to 10^34, at 32 × 32 for dilation 2; at 8 × 8 and 16 × 16, without dilation
and in the plain layout it is right (errors below 0.3 %). Nothing fails and losses stay finite for a while. So every kind of
convolution of a network is tried once, at its own sizes, before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import OcheError
from .objective import frozen_statistics
from .run.engine import Engine

Precision = Literal["float32", "bf16"]
TOLERANCE = 0.03  # relative error of a whole tensor; bfloat16 itself brings about 0.003


def computing(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Within, forwards compute in ``precision``."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def plainly(engine: Engine) -> Engine:
    """``engine`` with plain modules: kernels for cells take no bfloat16. Raises `OcheError` where they are asked for."""
    if engine.fused == "fused":
        raise OcheError(
            "precision='bf16' computes with plain modules; use engine='auto' or 'plain', or precision='float32'"
        )
    return replace(engine, fused="plain")


def prove(net: nn.Module, shape: tuple[int, int, int, int], engine: Engine) -> None:
    """Raises `OcheError` where a convolution of ``net`` has wrong gradients in bfloat16 for images of ``shape`` (B, C, H, W)."""
    for conv, x in _convolutions(net, engine.images(torch.zeros(shape))):
        error = _error(conv, x)
        if not error < TOLERANCE:
            raise OcheError(
                f"precision='bf16' computes wrong weight gradients here: those of a {_words(conv)} on maps of "
                f"{x.shape[2]}x{x.shape[3]} are off by {error:.2g} of their size (torch {torch.__version__}, "
                f"{engine.device.type}); use precision='float32'"
            )


def _convolutions(net: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, Tensor]]:
    """One convolution of each kind and size in ``net``, and an input like those that it gets."""
    found: dict[Any, tuple[nn.Conv2d, Tensor]] = {}

    def note(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(conv, nn.Conv2d)
        kind = (conv.weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups, inputs[0].shape)
        found.setdefault(kind, (conv, torch.empty_like(inputs[0], device="meta")))

    with _hooked(net, note), frozen_statistics(net), torch.no_grad():
        net(images)
    return [(conv, torch.randn(like.shape, device=images.device).contiguous(memory_format=torch.channels_last))
            for conv, like in found.values()]  # fmt: skip


@contextmanager
def _hooked(net: nn.Module, note: Any) -> Iterator[None]:
    handles = [m.register_forward_pre_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _error(conv: nn.Conv2d, x: Tensor) -> float:
    """Largest relative error of the gradients of weights and input."""

    def gradients(precision: Precision) -> tuple[Tensor, ...]:
        w, z = (t.detach().clone().requires_grad_() for t in (conv.weight, x))
        with computing(precision, x.device):
            y = F.conv2d(z, w, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        return torch.autograd.grad(y, (w, z), torch.ones_like(y) + y.detach())

    pairs = zip(gradients("bf16"), gradients("float32"), strict=True)
    return max(((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in pairs)


def _words(conv: nn.Conv2d) -> str:
    depthwise = "depthwise " if conv.groups == conv.in_channels > 1 else ""
    dilated = "dilated " if max(conv.dilation) > 1 else ""
    return f"{dilated}{depthwise}{conv.kernel_size[0]}x{conv.kernel_size[1]} convolution"
