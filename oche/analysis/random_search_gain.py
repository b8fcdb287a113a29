"""Relative improvement of a search over random cells of the same space, trained the same way."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from oche.analysis.summary import MIN_VALUES, Interval, Undetermined, interval


@dataclass(frozen=True)
class RelativeImprovement:
    """``percent``: relative improvement, with its 95 % interval; ``n``, ``n_random``: numbers of results."""

    percent: float
    interval: Interval | Undetermined
    n: int
    n_random: int


def relative_improvement(
    found: Sequence[float], random: Sequence[float], higher: bool = True, seed: int = 0
) -> RelativeImprovement | Undetermined:
    """Return RI = 100 (Acc_m - Acc_r) / Acc_r of the mean accuracies of method and random cells (1912.12522 §3).

    ``higher``: whether higher results are better. The interval resamples both groups independently, because found and random
    cells of one seed are not paired. `Undetermined` where a group is empty or the mean of the random cells is 0.
    Deviation 1: where less is better (perplexity) the sign is turned, so that a positive RI is always an improvement.
    """
    if not random:
        return Undetermined("there are no random cells to compare with")
    if not found:
        return Undetermined("there is no result to compare")
    if statistics.fmean(random) == 0:
        return Undetermined("the mean of the random cells is 0, so there is no relative improvement")

    def relative(m, r, axis):
        return _relative(m.mean(axis=axis), r.mean(axis=axis), higher)

    few = min(len(found), len(random))
    around = (
        interval(found, random, statistic=relative, seed=seed)
        if few >= MIN_VALUES
        else Undetermined(f"{len(found)} found and {len(random)} random cells; an interval takes {MIN_VALUES} of each")
    )
    percent = _relative(statistics.fmean(found), statistics.fmean(random), higher)
    return RelativeImprovement(percent, around, len(found), len(random))


def _relative(mean, random, higher: bool):
    return 100 * (mean - random) / random * (1 if higher else -1)
