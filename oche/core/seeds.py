"""Random numbers as a function of (seed, stream, step), so a resumed run has no generator state to restore.

Shapes: B images of a batch.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def derive_seed(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed for the stream that ``parts`` name. It is the same on every machine, process and Python version.

    Parts are hashed with their types and lengths, so ("a", "b") and ("ab",) differ, and so do ("a", 1) and ("a", "1").
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *parts):
        text = str(part).encode()
        digest.update(f"{'s' if isinstance(part, str) else 'i'}{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest(), "big") >> 1


def generator(seed: int, *parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator on ``device`` for the stream that ``parts`` name, such as ``generator(seed, "order", epoch)``."""
    import torch

    return torch.Generator(device).manual_seed(derive_seed(seed, *parts))


def batch_integers(below: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return (B,) int64 in [0, below), one for each image of ``like`` (B, …), on the device of ``like``.

    The numbers are drawn on the device of ``generator``, so a CPU generator draws the same for images on any device.
    ``generator=None`` draws from torch's global generator.
    """
    import torch

    drawn = torch.randint(below, (len(like),), generator=generator, device=_device(like, generator))
    return drawn.to(like.device, non_blocking=True)


def batch_uniform(like: Tensor, generator: torch.Generator | None, *rows: int) -> Tensor:
    """Return float32 of shape ``(*rows, B)`` in [0, 1), one column for each image of ``like``. Drawn like `batch_integers`."""
    import torch

    drawn = torch.rand(*rows, len(like), generator=generator, device=_device(like, generator))
    return drawn.to(like.device, non_blocking=True)


def _device(like: Tensor, generator: torch.Generator | None) -> torch.device:
    return like.device if generator is None else generator.device
