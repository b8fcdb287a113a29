"""How much a search adds over random cells of the same space, trained the same way."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from oche.analysis.summary import ENOUGH, CannotSay, Interval, interval


@dataclass(frozen=True)
class Improvement:
    """``percent``: relative improvement; ``n``, ``n_random``: results behind it."""

    percent: float
    interval: Interval | CannotSay
    n: int
    n_random: int


def improvement(
    found: Sequence[float], random: Sequence[float], higher: bool = True, seed: int = 0
) -> Improvement | CannotSay:
    """Relative improvement over random (Yang et al., 1912.12522 §3): RI = 100 (Acc_m - Acc_r) / Acc_r, of mean accuracies.

    The interval resamples both groups on their own: cells of one seed, found and random, have nothing in common that is paired.
    Deviation 1: where less is better (perplexity) the sign is turned, so that a positive RI is always an improvement.
    """
    if not random:
        return CannotSay("there are no random cells to compare with")
    if not found:
        return CannotSay("there is no result to compare")
    if statistics.fmean(random) == 0:
        return CannotSay("the mean of the random cells is 0, and nothing is a share of that")

    def relative(m, r, axis):
        return _relative(m.mean(axis=axis), r.mean(axis=axis), higher)

    few = min(len(found), len(random))
    around = (
        interval(found, random, statistic=relative, seed=seed)
        if few >= ENOUGH
        else CannotSay(f"{len(found)} found and {len(random)} random cells; an interval takes {ENOUGH} of each")
    )
    percent = _relative(statistics.fmean(found), statistics.fmean(random), higher)
    return Improvement(percent, around, len(found), len(random))


def _relative(mean, random, higher: bool):
    return 100 * (mean - random) / random * (1 if higher else -1)
