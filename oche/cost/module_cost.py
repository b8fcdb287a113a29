"""Measure one network or module: parameters, FLOPs and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from torch import nn


def parameters(net: nn.Module, auxiliary: bool = False) -> int:
    """Return the number of weights of ``net``.

    ``auxiliary``: include the auxiliary tower, which only training needs.
    """
    return sum(p.numel() for name, p in net.named_parameters() if auxiliary or not name.startswith("auxiliary."))


def flops(net: nn.Module, forward: Callable[[], object]) -> int:
    """Return the FLOPs of ``forward()`` with ``net`` in evaluation mode; a multiply-add counts as two.

    Only forward passes are counted, because torch's counter counts the backward of grouped convolutions too high.
    """
    from torch.utils.flop_counter import FlopCounterMode

    before = net.training
    net.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        forward()
    net.train(before)
    return counter.get_total_flops()


WARM_UP = 3  # uncounted runs, in which caches fill and libraries choose their algorithms


MIN_RUNS = 7  # least number of counted runs


MIN_SECONDS = 0.2  # least total time of counted runs


@dataclass(frozen=True)
class Timing:
    """Milliseconds: the median of ``runs``, and their 10th and 90th percentile."""

    median: float
    low: float
    high: float
    runs: int


def time_function(work: Callable[[], Any], device: torch.device | str = "cpu") -> Timing:
    """Return the time of ``work``, after `WARM_UP` runs, measured for at least `MIN_SECONDS` and `MIN_RUNS` runs.

    On a GPU every run waits for the device.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    for _ in range(WARM_UP):
        work()
    wait()
    times: list[float] = []
    while len(times) < MIN_RUNS or sum(times) < MIN_SECONDS:
        began = perf_counter()
        work()
        wait()
        times.append(perf_counter() - began)
    deciles = quantiles(times, n=10, method="inclusive")
    return Timing(1000 * median(times), 1000 * deciles[0], 1000 * deciles[-1], len(times))
