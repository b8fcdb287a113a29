"""The length of a training or search, and the clock that measures its progress."""

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
    elapsed: float = 0.0  # seconds of work, over all resumptions

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
        if limit is None or self.elapsed >= limit:
            self.elapsed += seconds
        else:
            self.elapsed = min(self.elapsed + seconds, math.nextafter(limit, 0.0))
