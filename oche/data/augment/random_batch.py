"""Random numbers for a batch, a draw an image, from the generator's own device.

So a generator of the CPU draws the same for images on any device. B images.
"""

from __future__ import annotations

import torch
from torch import Tensor


def integers(below: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """(B,) int64 in [0, below), on the device of ``like`` (B, …). ``generator=None`` draws from torch's global one there."""
    drawn = torch.randint(below, (len(like),), generator=generator, device=_device(like, generator))
    return drawn.to(like.device, non_blocking=True)


def uniform(like: Tensor, generator: torch.Generator | None, *rows: int) -> Tensor:
    """float32 of shape (rows …, B) in [0, 1), on the device of ``like`` (B, …)."""
    drawn = torch.rand(*rows, len(like), generator=generator, device=_device(like, generator))
    return drawn.to(like.device, non_blocking=True)


def _device(like: Tensor, generator: torch.Generator | None) -> torch.device:
    return like.device if generator is None else generator.device
