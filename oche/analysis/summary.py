"""Mean, spread and a confidence interval of a few numbers.

Shapes: a sample is a sequence of n floats, one a seed.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

ENOUGH = 3  #: of fewer values nothing is said but what they are
LEVEL = 0.95
RESAMPLES = 9_999
Interval = tuple[float, float]


@dataclass(frozen=True)
class CannotSay:
    """In place of a number that cannot be had, with the reason in words."""

    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class Summary:
    """``sd``: sample standard deviation (divided by n - 1); ``interval``: of the mean, at 95 %."""

    n: int
    mean: float
    sd: float | CannotSay
    interval: Interval | CannotSay
    least: float
    most: float


def summarise(values: Sequence[float], seed: int = 0) -> Summary | CannotSay:
    """What a sample says of the mean behind it; the interval resamples by ``seed``, so it is the same every time."""
    if not values:
        return CannotSay("there is no value")
    sd = statistics.stdev(values) if len(values) > 1 else CannotSay("one value has no spread")
    return Summary(
        len(values), statistics.fmean(values), sd, interval(values, seed=seed), least=min(values), most=max(values)
    )


def interval(
    *samples: Sequence[float], statistic: Callable[..., Any] | None = None, seed: int = 0, level: float = LEVEL
) -> Interval | CannotSay:
    """Bootstrap interval at ``level`` of ``statistic`` of independent samples, by default the mean of one.

    Bias-corrected and accelerated (BCa; Efron 1987), by `scipy.stats.bootstrap` with 9,999 resamples. ``statistic`` takes the
    samples and ``axis``. It cannot be said of fewer than 3 values, nor of equal ones: resampling them gives one number.
    """
    if (least := min(map(len, samples))) < ENOUGH:
        return CannotSay(f"{least} value{'s are' if least != 1 else ' is'} too few for an interval; it takes {ENOUGH}")
    if all(len({*sample}) == 1 for sample in samples):
        return CannotSay(f"all {least} values are equal, and resampling equal values says nothing")
    import numpy as np
    from scipy import stats  # takes a second to import

    def of_sorted(*resampled, axis):
        # The same values in another order must give the same number to the last bit: BCa counts what lies below the sample's.
        return (statistic or np.mean)(*(np.sort(values, axis=axis) for values in resampled), axis=axis)

    drawn: Any = {"random_state": np.random.default_rng(seed)}  # called rng from scipy 1.15 on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of degenerate samples, which are answered for below
        found = stats.bootstrap(
            [np.asarray(sample, dtype=float) for sample in samples], of_sorted, method="BCa", confidence_level=level,
            n_resamples=RESAMPLES, vectorized=True, **drawn,
        ).confidence_interval  # fmt: skip
    low, high = float(found.low), float(found.high)
    if isfinite(low) and isfinite(high):
        return low, high
    return CannotSay("the values are too alike for a bootstrap interval")
