"""How long a loop goes on, and where it stands."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from oche.core.errors import OcheError


def parse_duration(text: str) -> float:
    """Length of a budget such as "90s", "10m", "1h30m", "1.5h", in seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    plain = text.strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", plain)
    total = sum(float(n) * units[u] for n, u in parts)
    if "".join(n + u for n, u in parts) != plain or total <= 0:
        raise OcheError(f"budget {text!r} is no length of time; write 90s, 10m or 1h30m")
    return total


@dataclass(frozen=True)
class Budget:
    """How long to go on: ``parse_duration`` if given, else ``steps`` if given, else ``epochs``."""

    epochs: int
    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, epochs: int, steps: int | None, budget: str | None) -> Budget:
        """Checked: impossible or contradictory lengths raise `OcheError`."""
        if epochs < 1 or (steps is not None and steps < 1):
            raise OcheError(f"epochs={epochs}, steps={steps} leave nothing to do; use at least 1")
        if steps is not None and budget is not None:
            raise OcheError(f"steps={steps} and budget={budget!r} contradict each other; give one of them")
        return cls(epochs, steps, None if budget is None else parse_duration(budget))


@dataclass
class Clock:
    """Where a loop stands. Everything scheduled is a function of ``progress``, which runs from 0 to 1 whatever the budget."""

    budget: Budget
    step: int = 0
    epoch: int = 0  # epochs finished
    position: int = 0  # steps done in the current epoch
    elapsed: float = 0.0  # seconds of work, over all resumptions

    def progress(self, per_epoch: int) -> float:
        if self.budget.seconds is not None:
            return min(1.0, self.elapsed / self.budget.seconds)
        if self.budget.steps is not None:
            return min(1.0, self.step / self.budget.steps)
        return min(1.0, (self.epoch + self.position / per_epoch) / self.budget.epochs)

    def spend(self, seconds: float) -> None:
        """Counts work between two epochs, such as evaluation. It never uses up a budget of time: the last record must be
        the one written at progress 1, so at least one more step follows."""
        limit = self.budget.seconds
        if limit is None or self.elapsed >= limit:
            self.elapsed += seconds
        else:
            self.elapsed = min(self.elapsed + seconds, math.nextafter(limit, 0.0))
