"""Cut a long text into pieces for training: parallel streams, and windows of the streams.

Shapes: N tokens, B streams of T steps.
"""

from __future__ import annotations

from random import Random

from torch import Tensor

from oche.core.errors import OcheError, plural

Window = tuple[int, int]  # (first step, number of steps); the targets are the tokens one step later

# Windows of varying length, as in the released code.
SHORTEST = 5  # steps
LONGEST_BEYOND = 20  # steps beyond bptt
DEVIATION = 5.0  # steps
HALF_SHARE = 0.05  # probability of a window around half of bptt


def parallel_streams(tokens: Tensor, batch: int, bptt: int = 1) -> Tensor:
    """Return ``tokens`` (N,) as ``batch`` streams side by side (T, batch).

    Each is one piece of the text; a remainder is dropped.

    Raises `OcheError` if a stream is too short for one window of ``bptt`` steps and its last target.
    """
    steps = len(tokens) // batch
    if steps <= bptt:
        raise OcheError(
            f"bptt={bptt} is longer than a stream: {plural(len(tokens), 'token')} in batch={batch} streams make "
            f"{plural(steps, 'step')} each, "
            f"and a window needs {bptt + 1}; use a smaller bptt or batch, or more text"
        )
    return tokens[: steps * batch].view(batch, steps).t().contiguous()


def fixed_windows(steps: int, bptt: int) -> list[Window]:
    """Return consecutive windows of ``bptt`` steps over a stream of ``steps``. The last may be shorter."""
    return [(start, min(bptt, steps - 1 - start)) for start in range(0, steps - 1, bptt)]


def varying_windows(steps: int, bptt: int, random: Random) -> list[Window]:
    """Return windows of varying length (1708.02182 §5): normal around ``bptt``, with probability 0.05 around half of it.

    The standard deviation is 5 steps, and lengths stay between 5 and ``bptt`` + 20, as in the released code. Deviation 1
    from it: a last window of one step is used too.
    """
    windows, start = [], 0
    while start < steps - 1:
        mean = bptt if random.random() >= HALF_SHARE else bptt / 2
        length = min(max(SHORTEST, int(random.gauss(mean, DEVIATION))), bptt + LONGEST_BEYOND)
        windows.append((start, min(length, steps - 1 - start)))
        start += length
    return windows
