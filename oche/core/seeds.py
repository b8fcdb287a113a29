"""Randomness as a pure function of (seed, stream, step), so that a resumed run has no generator state to restore."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def fold(seed: int, *parts: int | str) -> int:
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

    return torch.Generator(device).manual_seed(fold(seed, *parts))
