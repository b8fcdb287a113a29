"""Mean, standard deviation and a bootstrap confidence interval of a few numbers.

Shapes: a sample is a sequence of n floats, one for each seed.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

MIN_VALUES = 3  #: fewer values have no interval and no test
LEVEL = 0.95
RESAMPLES = 9_999
Interval = tuple[float, float]


@dataclass(frozen=True)
class Undetermined:
    """Stands in place of a number that cannot be computed, and holds the reason as a text."""

    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class Summary:
    """Summary of a sample. ``sd``: sample standard deviation (divisor n - 1); ``interval``: 95 % interval of the mean."""

    n: int
    mean: float
    sd: float | Undetermined
    interval: Interval | Undetermined
    least: float
    most: float


def differ(a: float, b: float, images: float | None = None) -> bool:
    """Whether two results differ by more than chance may make of them.

    For accuracies on ``images`` images, measured independently: the two-sided z-test of two proportions at 5 %, without
    pooling. On the same images it is cautious, since their accuracies go together. Without ``images`` equal values alone do not
    differ.
    """
    if not images:
        return a != b
    return abs(a - b) > 1.96 * sqrt((a * (1 - a) + b * (1 - b)) / images)


def summarise(values: Sequence[float], seed: int = 0) -> Summary | Undetermined:
    """Summarise a sample; `Undetermined` where it is empty. ``seed`` draws the resamples of the interval."""
    if not values:
        return Undetermined("there is no value")
    sd = statistics.stdev(values) if len(values) > 1 else Undetermined("one value has no spread")
    return Summary(
        len(values), statistics.fmean(values), sd, interval(values, seed=seed), least=min(values), most=max(values)
    )


def interval(
    *samples: Sequence[float], statistic: Callable[..., Any] | None = None, seed: int = 0, level: float = LEVEL
) -> Interval | Undetermined:
    """Return the bootstrap interval at ``level`` of ``statistic`` of independent samples, by default the mean of one sample.

    Bias-corrected and accelerated (BCa; Efron 1987), by `scipy.stats.bootstrap` with 9,999 resamples drawn by ``seed``.
    ``statistic`` takes the samples and ``axis``. `Undetermined` for fewer than 3 values or equal ones: all their resamples give
    the same number.
    """
    if (least := min(map(len, samples))) < MIN_VALUES:
        return Undetermined(
            f"{least} value{'s are' if least != 1 else ' is'} too few for an interval; it takes {MIN_VALUES}"
        )
    if all(len({*sample}) == 1 for sample in samples):
        return Undetermined(f"all {least} values are equal, so resampling them gives no interval")
    import numpy as np
    from scipy import stats  # takes a second to import

    def of_sorted(*resampled, axis):
        # Sorted, so that the order of the values does not change the last bit: BCa counts resamples below the sample's value.
        return (statistic or np.mean)(*(np.sort(values, axis=axis) for values in resampled), axis=axis)

    drawn: Any = {"random_state": np.random.default_rng(seed)}  # the argument is called rng from scipy 1.15 on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about degenerate samples, which are handled below
        found = stats.bootstrap(
            [np.asarray(sample, dtype=float) for sample in samples], of_sorted, method="BCa", confidence_level=level,
            n_resamples=RESAMPLES, vectorized=True, **drawn,
        ).confidence_interval  # fmt: skip
    low, high = float(found.low), float(found.high)
    if isfinite(low) and isfinite(high):
        return low, high
    return Undetermined("the values are too alike for a bootstrap interval")
