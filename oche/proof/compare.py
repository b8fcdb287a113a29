"""Compare what two forms of a step left: relative errors, and whether they are within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite

import torch
from torch import Tensor

from oche.proof.values import BF16, Bounds, Evidence

GRADIENTS = ("gradients", "logits", "weights")  # groups of evidence that are measured as gradients are
SMALL = 0.01  # tensors below this share of the norm of all are measured by this share of it


def errors(found: Evidence, expected: Evidence) -> dict[str, float]:
    """Return the relative errors of ``found``, by the names of `Bounds`. A value that is no number counts as infinite.

    A tensor that one of both lacks is zero there: a form may leave a gradient out where another has zeros.
    """
    loss = max((_loss_error(found["loss"].get(name), t) for name, t in expected["loss"].items()), default=0.0)
    statistics, _ = _group_errors(found.get("statistics", {}), expected.get("statistics", {}))
    groups = [_group_errors(found.get(name, {}), expected.get(name, {})) for name in GRADIENTS]
    return {
        "loss": loss,
        "statistics": statistics,
        "gradients": max(whole for whole, _ in groups),
        "tensor": max(worst for _, worst in groups),
    }


def largest(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the larger error of each name."""
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}


def disagreement(found: Mapping[str, float], bounds: Bounds, noise: Mapping[str, float]) -> str:
    """Return what of the errors ``found`` exceeds the ``bounds``, in one line; "" if nothing does.

    ``noise``: the errors of the plain form itself. They widen the bounds, up to those of bfloat16.
    """
    for name, error in found.items():
        own = noise.get(name, 0.0)
        widened = bounds.noise * own if isfinite(own) else 0.0
        bound = max(getattr(bounds, name), min(widened, getattr(BF16, name)))
        if not error <= bound:
            return (
                f"{_WORDS[name]} differ from the plain float32 step by {error:.2g} of their size (allowed: {bound:.2g})"
            )
    return ""


_WORDS = {
    "loss": "losses",
    "statistics": "statistics of BatchNorms",
    "gradients": "gradients",
    "tensor": "those of one tensor of the gradients",
}


def _loss_error(found: Tensor | None, expected: Tensor) -> float:
    if found is None:
        return inf
    error = float((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1.0))
    return error if isfinite(error) else inf


def _group_errors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[float, float]:
    """Return (error of all tensors together, largest error of one tensor), relative to ``expected``."""
    differences, sizes = [], []
    for name in {**expected, **found}:
        a, b = found.get(name), expected.get(name)
        if a is not None and b is not None and a.shape != b.shape:
            return inf, inf
        some = a if b is None else b
        assert some is not None
        zero = torch.zeros_like(some)
        x, y = (zero if t is None else t.double() for t in (a, b))
        differences.append(float((x - y).norm()))
        sizes.append(float(y.norm()))
    whole = sum(size**2 for size in sizes) ** 0.5
    difference = sum(d**2 for d in differences) ** 0.5
    if not isfinite(difference) or not isfinite(whole):
        return inf, inf
    if whole == 0:
        return (0.0, 0.0) if difference == 0 else (inf, inf)
    worst = max(d / max(size, SMALL * whole) for d, size in zip(differences, sizes, strict=True))
    return difference / whole, worst
