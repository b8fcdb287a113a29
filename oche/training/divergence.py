"""The end of a run whose losses, weights or other numbers are no longer finite.

Losses are counted on the device and looked at now and then. Tensors are checked when an epoch ends and before a checkpoint,
never in between. Each look waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from oche.core.budget import Clock
from oche.core.errors import OcheError
from oche.core.finite import all_finite, describe_not_finite, first_not_finite
from oche.core.metrics import Meter

CHECK_EVERY = 50  # steps between two checks of the losses on a GPU; each check waits for the device
LOGITS = "logits."  # begins the names of architecture logits, here and in weights.safetensors


class Diverged(OcheError):
    """A loss, weight or other number of a run is no longer finite. ``step``: the number of steps that succeeded."""

    exit_code = 1
    settings = ("w.lr", "w.clip")  # options to change

    def __init__(self, text: str, step: int = 0) -> None:
        super().__init__(text)
        self.step = step


class LogitsDiverged(Diverged):
    """Architecture logits are no longer finite."""

    settings = ("a.lr", "w.lr")


class SearchDiverged(Diverged):
    """The loss of a search is no longer finite, and its logits are large or not finite: they may be the reason."""

    settings = ("w.lr", "w.clip", "a.lr")


LARGE = 1e3  # logits of sound searches are below 20


def loss_error(tensors: Mapping[str, Tensor]) -> type[Diverged]:
    """Return the class of the error about a loss that is not finite, which names the settings to change."""
    logits = [t for name, t in tensors.items() if name.startswith(LOGITS)]
    return Diverged if all(bool((t.abs() <= LARGE).all()) for t in logits) else SearchDiverged


def check_tensors(
    tensors: Mapping[str, Tensor],
    when: str,
    step: int = -1,
    rate: float | None = None,
    agree: Callable[[bool], bool] = bool,
) -> None:
    """Raise `Diverged` if one of ``tensors`` is not finite on any process. Waits for the device.

    ``when`` and ``rate`` are for the message; ``agree`` says whether any process found something.
    """
    if agree(not all_finite(tensors.values())):
        found = describe_not_finite(tensors) or "a tensor of another rank is not finite"
        raise (LogitsDiverged if found.startswith(LOGITS) else Diverged)(advise(f"{found} {when}", rate), step)


def check_numbers(record: Mapping[str, Any], when: str, step: int = -1, rate: float | None = None) -> None:
    """Raise `Diverged` if a number of ``record`` is nan or infinite. ``when`` and ``rate`` are for the message."""
    if (found := first_not_finite(record)) is not None:
        name, value = found
        raise Diverged(advise(f"the {name.replace('_', ' ')} became {value} {when}", rate), step)


def advise(what: str, rate: float | None) -> str:
    """Add the learning ``rate`` and what to change to the description of what is not finite."""
    at = "" if rate is None else f", with a learning rate of {rate:.3g}"
    return f"{what}{at}; try a smaller learning rate or gradient clipping"


# --- losses -------------------------------------------------------------------------------------------------------------


class Watched(Protocol):
    """The part of a `oche.training.loop.Task` that is watched."""

    meters: dict[str, Meter]

    def rate(self, progress: float) -> float: ...
    def tensors(self) -> Mapping[str, Tensor]: ...


def device_of(task: Watched) -> torch.device:
    """Return the device that the meters of ``task`` add up on."""
    return next(iter(task.meters.values())).sums.device


class Heartbeat:
    """Counts, on the device, the steps of an epoch with finite losses. `check` waits for the device and reads the count.

    A sum that is not finite stays so until the epoch ends, so an occasional look is enough.
    """

    def __init__(self, task: Watched, clock: Clock) -> None:
        self.task, self.first, self.epoch = task, clock.step, clock.epoch + 1
        device = device_of(task)
        self.sound = torch.zeros((), dtype=torch.int64, device=device)
        self.every = 1 if device.type == "cpu" else CHECK_EVERY
        self.rates: list[float] = []  # learning rate of each step

    def beat(self, progress: float) -> None:
        """Count a step; ``progress`` is that of the step. Call it after every step."""
        self.rates.append(self.task.rate(progress))
        self.sound += torch.stack([meter.sums[0] for meter in self.task.meters.values()]).isfinite().all()
        if len(self.rates) % self.every == 0:
            self.check()

    def check(self) -> None:
        """Raise `Diverged` if any loss was not finite."""
        sound = int(self.sound)
        if sound == len(self.rates):
            return
        losses = {name: float(meter.sums[0]) for name, meter in self.task.meters.items()}
        name, loss = next((name, loss) for name, loss in losses.items() if not math.isfinite(loss))
        when = f"at step {self.first + sound + 1} (epoch {self.epoch})"
        kind = loss_error(self.task.tensors())
        raise kind(advise(f"the {name} loss became {loss} {when}", self.rates[sound]), self.first + sound)
