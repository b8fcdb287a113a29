"""How long something takes on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch

WARM_UP = 3  # runs that do not count: caches fill, libraries choose their algorithms
LEAST = 7  # runs that do, at least
SECONDS = 0.2  # and for so long, at least


@dataclass(frozen=True)
class Timing:
    """Milliseconds: the median of ``runs``, and the range of their middle 80 %."""

    median: float
    low: float
    high: float
    runs: int


def timed(work: Callable[[], Any], device: torch.device | str = "cpu") -> Timing:
    """How long ``work`` takes, after `WARM_UP` runs; measured for `SECONDS`, and at least `LEAST` times.

    On a GPU each run is waited for.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    for _ in range(WARM_UP):
        work()
    wait()
    times: list[float] = []
    while len(times) < LEAST or sum(times) < SECONDS:
        began = perf_counter()
        work()
        wait()
        times.append(perf_counter() - began)
    deciles = quantiles(times, n=10, method="inclusive")
    return Timing(1000 * median(times), 1000 * deciles[0], 1000 * deciles[-1], len(times))
