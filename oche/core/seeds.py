"""Randomness as a pure function of (seed, stream, step), so that a resumed run has no generator state to restore."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def derive_seed(seed: int, *parts: int | str) -> int:
    """A stable 63-bit seed for the stream that ``parts`` name: the same on every machine, process and Python version.

    Parts are hashed with their types and lengths, so ("a", "b"), ("ab",) and ("a", 1), ("a", "1") all differ.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *parts):
        text = str(part).encode()
        digest.update(f"{'s' if isinstance(part, str) else 'i'}{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest(), "big") >> 1


def generator(seed: int, *parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on ``device`` for the stream that ``parts`` name, e.g. ``generator(seed, "order", epoch)``."""
    import torch

    return torch.Generator(device).manual_seed(derive_seed(seed, *parts))


def batch_integers(below: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """(B,) int64 in [0, below), on the device of ``like`` (B, …). ``generator=None`` draws from torch's global one there."""
    import torch

    drawn = torch.randint(below, (len(like),), generator=generator, device=_device(like, generator))
    return drawn.to(like.device, non_blocking=True)


def batch_uniform(like: Tensor, generator: torch.Generator | None, *rows: int) -> Tensor:
    """float32 of shape (rows …, B) in [0, 1), on the device of ``like`` (B, …)."""
    import torch

    drawn = torch.rand(*rows, len(like), generator=generator, device=_device(like, generator))
    return drawn.to(like.device, non_blocking=True)


def _device(like: Tensor, generator: torch.Generator | None) -> torch.device:
    return like.device if generator is None else generator.device
