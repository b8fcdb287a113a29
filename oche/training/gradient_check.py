"""Check that convolutions in bfloat16 have correct gradients on this device.

Measured with torch 2.13.0 on an AMD EPYC CPU: the weight gradient of a dilated depthwise convolution in channels_last
is read from uninitialised memory. Relative errors reach 10^34 at 32 × 32 with dilation 2; at 8 × 8 and 16 × 16,
without dilation, and in the NCHW layout the gradient is correct (errors below 0.3 %). Nothing fails, and losses stay
finite for a while. Therefore every kind of convolution of a network is tried once, at its own sizes, before the first
step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.architecture import Mix, alive_candidates, all_alive
from oche.core.errors import OcheError
from oche.devices.engine import Engine
from oche.devices.mixed_precision import Precision, precision_context, with_precision
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.training.losses import frozen_statistics

TOLERANCE = 0.03  # relative error of a whole tensor; rounding to bfloat16 causes about 0.003


def check_search_in_bf16(space: Space, recipe: SearchRecipe, engine: Engine) -> None:
    """Run `check_bf16_gradients` on every supernet of a bfloat16 search, for its first and its largest batch.

    A search in float32 is not checked. Raises `OcheError` as `check_bf16_gradients` does.
    """
    if recipe.precision == "float32":
        return
    engine, candidates = with_precision(engine, recipe.precision), len(space.candidates)
    masks = {name: all_alive(dag, candidates) for name, dag in space.groups.items()}
    ones = {name: torch.ones(mask.shape, device=engine.device, dtype=engine.dtype) for name, mask in masks.items()}
    mixes = {name: Mix(ones[name], None, alive_candidates(mask)) for name, mask in masks.items()}
    largest = recipe.batch + recipe.method.batch_growth * max(map(len, masks.values()))
    for stage in recipe.method.stages:
        with engine.seeded(0):
            net = engine.place(stage.of(space).supernet(stage.edge or recipe.method.edge))
        for batch in sorted({recipe.batch, largest}):
            images = max(1, batch // engine.processes.world_size)
            shape = images, space.in_channels, *space.image
            check_bf16_gradients(net, shape, engine, mixes, twice=recipe.method.hypergrad.twice)


def check_bf16_gradients(
    net: nn.Module, shape: tuple[int, int, int, int], engine: Engine, *rest: Any, twice: bool = False
) -> None:
    """Check the bfloat16 gradients of all convolutions of ``net`` for images of ``shape`` (B, C, H, W).

    ``rest``: further inputs of the network after the images. ``twice``: check second derivatives too. Raises
    `OcheError` where a relative error exceeds `TOLERANCE`.
    """
    for conv, x in _convolutions(net, engine.images(torch.zeros(shape)), *rest):
        error = _error(conv, x, twice)
        if not error < TOLERANCE:
            raise OcheError(
                f"precision='bf16' computes wrong gradients here: those of a {_words(conv)} on maps of "
                f"{x.shape[2]}x{x.shape[3]} are off by {error:.2g} of their size (torch {torch.__version__}, "
                f"{engine.device.type}); use precision='float32'"
            )


def _convolutions(net: nn.Module, images: Tensor, *rest: Any) -> Iterator[tuple[nn.Conv2d, Tensor]]:
    """Yield one convolution of each kind and size in ``net``, with a random input of the size that it receives."""
    found: dict[Any, tuple[nn.Conv2d, Tensor]] = {}

    def note(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(conv, nn.Conv2d)
        kind = (conv.weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups, inputs[0].shape)
        found.setdefault(kind, (conv, torch.empty_like(inputs[0], device="meta")))

    with _hooked(net, note), frozen_statistics(net), torch.no_grad():
        net(images, *rest)
    g = torch.Generator(images.device).manual_seed(0)
    for conv, template in found.values():
        x = torch.randn(template.shape, generator=g, device=images.device, dtype=images.dtype)
        yield conv, x.contiguous(memory_format=torch.channels_last)


@contextmanager
def _hooked(net: nn.Module, note: Any) -> Iterator[None]:
    handles = [m.register_forward_pre_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _error(conv: nn.Conv2d, x: Tensor, twice: bool) -> float:
    """Return the largest relative error of the gradients of weight and input.

    ``twice``: include the derivatives of the gradients along the weight and the input.
    """

    def gradients(precision: Precision) -> tuple[Tensor, ...]:
        w, z = (t.detach().clone().requires_grad_() for t in (conv.weight, x))
        with precision_context(precision, x.device):
            y = F.conv2d(z, w, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        v = (torch.ones_like(y) + y.detach()).requires_grad_(twice)
        once = torch.autograd.grad(y, (w, z), v, create_graph=twice)
        along = w.detach(), z.detach()
        return once + torch.autograd.grad(once, (w, z, v), along, materialize_grads=True) if twice else once

    pairs = zip(gradients("bf16"), gradients("float32"), strict=True)
    return max(((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in pairs)


def _words(conv: nn.Conv2d) -> str:
    depthwise = "depthwise " if conv.groups == conv.in_channels > 1 else ""
    dilated = "dilated " if max(conv.dilation) > 1 else ""
    return f"{dilated}{depthwise}{conv.kernel_size[0]}x{conv.kernel_size[1]} convolution"
