"""The length of a training or search, and the clock that measures its progress.

A budget of time counts the steps, and what is done between epochs (validation, decisions, records), up to the last step. It
does not count what comes before the first step (reading data, compiling kernels, measuring latencies), what the first step of
a process takes longer than the second (kernels and memory are prepared in it), nor what follows the last step (the final test,
the selection of a cell, the report). The clock's `seconds` is the number that the terminal, summary.json and reports show.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from oche.core.errors import OcheError


def parse_duration(text: str) -> float:
    """Return the seconds in a text such as "90s", "10m", "1h30m" or "1.5h". Raises `OcheError` for other texts."""
    seconds_per_unit = {"h": 3600.0, "m": 60.0, "s": 1.0}
    plain = text.strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", plain)
    total = sum(float(number) * seconds_per_unit[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != plain or total <= 0:
        raise OcheError(f"budget {text!r} is not a length of time; write 90s, 10m or 1h30m")
    return total


@dataclass(frozen=True)
class Budget:
    """The length of a loop: ``seconds`` if given, otherwise ``steps`` if given, otherwise ``epochs``."""

    epochs: int
    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, epochs: int, steps: int | None, budget: str | None) -> Budget:
        """Return the budget for the values of a configuration.

        ``budget`` is a duration such as "10m". Raises `OcheError` for impossible or contradictory lengths.
        """
        if epochs < 1 or (steps is not None and steps < 1):
            raise OcheError(f"epochs={epochs}, steps={steps} leave nothing to do; use at least 1")
        if steps is not None and budget is not None:
            raise OcheError(f"steps={steps} and budget={budget!r} contradict each other; give one of them")
        return cls(epochs, steps, None if budget is None else parse_duration(budget))


@dataclass
class Clock:
    """The position of a loop in its budget.

    Everything that is scheduled is a function of ``progress``, which runs from 0 to 1 whatever the budget.
    """

    budget: Budget
    step: int = 0
    epoch: int = 0  # epochs finished
    position: int = 0  # steps done in the current epoch
    elapsed: float = 0.0  # seconds of work that count for progress, over all resumptions
    beyond: float = 0.0  # seconds of work between epochs that a budget of time had no room for
    uncounted: float = 0.0  # seconds of the first step of this process, see `FirstStep`
    resumed: float = 0.0  # seconds of work when this process went on

    @property
    def seconds(self) -> float:
        """The seconds of work, over all resumptions; see the top of this module."""
        return self.elapsed + self.beyond

    def progress(self, per_epoch: int) -> float:
        """Return the share of the budget that has been used, in [0, 1]. ``per_epoch`` is the number of steps in an epoch."""
        if self.budget.seconds is not None:
            return min(1.0, self.elapsed / self.budget.seconds)
        if self.budget.steps is not None:
            return min(1.0, self.step / self.budget.steps)
        return min(1.0, (self.epoch + self.position / per_epoch) / self.budget.epochs)

    def spend(self, seconds: float) -> None:
        """Count ``seconds`` of work between two epochs, such as an evaluation.

        Such work never uses up a time budget. The last record must be the one of progress 1, so at least one more step follows.
        """
        limit = self.budget.seconds
        counted = self.elapsed + seconds
        if limit is not None and self.elapsed < limit:
            counted = min(counted, math.nextafter(limit, 0.0))
        self.beyond += self.elapsed + seconds - counted
        self.elapsed = counted


class FirstStep:
    """The time of the first step of a process beyond that of the second. A budget of time does not count it.

    torch prepares kernels and memory in the first step. Other lengths count all of it.
    """

    def __init__(self, budget: Budget) -> None:
        self._limit = budget.seconds
        self._times: list[float] = []  # of the first two steps
        self.uncounted = 0.0

    def note(self, seconds: float) -> float:
        """Note the ``seconds`` of a step. Return the change of the clock, which is 0 after the second step."""
        if self._limit is None or len(self._times) == 2:
            return 0.0
        self._times.append(seconds)
        before, first = self.uncounted, self._times[0]
        # Until the second step is known the first one hardly counts, so that progress never falls.
        counted = self._times[1] if len(self._times) == 2 else self._limit / 1000
        self.uncounted = max(0.0, first - counted)
        return before - self.uncounted
