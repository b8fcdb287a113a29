"""The end of a run whose losses, weights or other numbers are no longer finite.

Tensors are checked when an epoch ends and before a checkpoint, never in between, because each check waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from oche.core.errors import OcheError
from oche.core.finite import all_finite, describe_not_finite, first_not_finite

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
