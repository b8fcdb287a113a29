"""Which tensors and numbers are not finite (nan or infinite)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from oche.core.errors import plural


@torch.no_grad()
def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every value of ``tensors`` is finite. Integers are. Waits for the device once."""
    floats = [t for t in tensors if t.numel() and (t.is_floating_point() or t.is_complex())]
    # The largest absolute value of all; a supernet has thousands of tensors, over which torch loops faster than Python.
    return not floats or bool(get_total_norm(floats, math.inf).isfinite())


@torch.no_grad()
def describe_not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Describe the first tensor that is not finite: "stem.0.weight is not finite (3 of 432 values are nan)"; "" if all are."""
    for name, t in tensors.items():
        if not all_finite([t]):
            nan = int(t.isnan().sum())
            broken = t.numel() - int(t.isfinite().sum())
            kind = "nan" if nan == broken else "infinite" if not nan else "nan or infinite"
            return f"{name} is not finite ({broken:,} of {plural(t.numel(), 'value')} {_is(broken)} {kind})"
    return ""


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def first_not_finite(numbers: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return (name, value) of the first number in ``numbers``, or in a mapping in it, that is nan or infinite, or None."""
    for name, value in numbers.items():
        if isinstance(value, float) and not math.isfinite(value):
            return name, value
        if isinstance(value, Mapping) and (inner := first_not_finite(value)) is not None:
            return f"{name} {inner[0]}", inner[1]
    return None
