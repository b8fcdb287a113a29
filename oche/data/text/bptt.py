"""Long texts in pieces that a network can be trained on: parallel streams, and windows of them.

Shapes: N tokens, B streams of T steps.
"""

from __future__ import annotations

from random import Random

from torch import Tensor

from oche.core.errors import OcheError

Window = tuple[int, int]  # (first step, steps); the targets are the tokens one step further

SHORTEST, LONGER, SPREAD, HALVED = 5, 20, 5.0, 0.05  # of windows of varying length, as in the released code


def parallel_streams(tokens: Tensor, batch: int, bptt: int = 1) -> Tensor:
    """``tokens`` (N,) as ``batch`` streams side by side (T, batch), each a piece of the text; the rest is left out.

    Raises `OcheError` where a stream is too short for one window of ``bptt`` steps and the target after it.
    """
    steps = len(tokens) // batch
    if steps <= bptt:
        raise OcheError(
            f"bptt={bptt} is longer than a stream: {len(tokens):,} tokens in batch={batch} streams make {steps} steps each, "
            f"and a window needs {bptt + 1}; use a smaller bptt or batch, or more text"
        )
    return tokens[: steps * batch].view(batch, steps).t().contiguous()


def fixed_windows(steps: int, bptt: int) -> list[Window]:
    """Windows of ``bptt`` steps one after the other over a stream of ``steps``; the last one may be shorter."""
    return [(start, min(bptt, steps - 1 - start)) for start in range(0, steps - 1, bptt)]


def varying_windows(steps: int, bptt: int, random: Random) -> list[Window]:
    """Windows of varying length (1708.02182 §5): normal around ``bptt``, with probability 0.05 around half of it.

    The spread is 5 steps, and lengths stay between 5 and ``bptt`` + 20, as in the released code. Deviation 1 from it: a last
    window of one step is taken, too.
    """
    windows, start = [], 0
    while start < steps - 1:
        middle = bptt if random.random() >= HALVED else bptt / 2
        length = min(max(SHORTEST, int(random.gauss(middle, SPREAD))), bptt + LONGER)
        windows.append((start, min(length, steps - 1 - start)))
        start += length
    return windows
