"""The toy bilevel problem of DARTS §2.3 and the seed's §4.1 (Table 1, Figure 2), solved with the hypergradients of oche.

The two losses::

    lower: L_train(w, a) = w² − 2 a w + a²        upper: L_val(w, a) = a w − 2 a + 1

w*(a) = a, so the upper problem is min over a of a² − 2 a + 1, with the optimum (a, w) = (1, 1). All in float32, as
published.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.methods.hypergradients import FiniteDifference, HyperGradient, SgdStep, first_order

START = (2.0, -2.0)  # (a, w)
OPTIMUM = (1.0, 1.0)
PUBLISHED = {0.0: 659, 0.3: 411, 0.5: 296, 0.7: 335}  # iterations by xi, the seed's Table 1

Pair = tuple[Tensor, ...]


def train_loss(w: Pair, a: Pair) -> Tensor:
    """Return the lower loss ()."""
    return w[0] ** 2 - 2 * a[0] * w[0] + a[0] ** 2


def val_loss(w: Pair, a: Pair) -> Tensor:
    """Return the upper loss ()."""
    return a[0] * w[0] - 2 * a[0] + 1


@dataclass(frozen=True)
class Toy:
    """Settings of the experiment; the defaults are the seed's. Raises `OcheError` for values that cannot run."""

    lr: float = 0.01
    """learning rate of plain gradient descent on a and on w"""
    threshold: float = 1e-4
    """the problem is solved when neither a nor w moves by this much in an iteration"""
    most: int = 10_000
    """largest number of iterations"""

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.threshold <= 0 or self.most < 1:
            raise OcheError(
                f"lr={self.lr}, threshold={self.threshold}, most={self.most} cannot run; use lr > 0, threshold > 0, most >= 1"
            )


def solve(xi: float, toy: Toy = Toy()) -> dict:
    """Solve the problem with a look-ahead step of length ``xi``: 0 is first order, otherwise finite differences with ε =
    0.01/‖v‖.

    Return {"xi", "iterations", "seconds_per_iteration", "final", "trajectory": [(a, w) …]}; iterations count from 1. Raises
    `OcheError` for a ``xi`` that is negative or no number, and where a or w is no longer finite.
    """
    if not 0 <= xi < inf:
        raise OcheError(f"xi={xi} would step uphill, or is no number; use xi >= 0")
    hypergrad: HyperGradient = FiniteDifference() if xi > 0 else first_order
    a, w = (torch.tensor(x) for x in START)
    path = [START]
    began = time.perf_counter()
    for _ in range(toy.most):
        before = (a, w)
        (g,) = hypergrad(train_loss, val_loss, (w,), (a,), SgdStep(lr=xi))
        a = a - toy.lr * g
        slope = torch.autograd.grad(train_loss(((leaf := w.clone().requires_grad_()),), (a,)), leaf)[0]
        w = w - toy.lr * slope
        path.append((a.item(), w.item()))
        if not all(map(isfinite, path[-1])):
            raise OcheError(
                f"with xi={xi:g} the point (a, w) became {path[-1]} at iteration {len(path) - 1}; use a smaller xi"
            )
        if all(abs(new - old) < toy.threshold for new, old in zip((a, w), before, strict=True)):
            break
    seconds = (time.perf_counter() - began) / (len(path) - 1)
    return {
        "xi": xi,
        "iterations": len(path) - 1,
        "seconds_per_iteration": seconds,
        "final": path[-1],
        "trajectory": path,
    }


def experiment(xis: tuple[float, ...] = tuple(PUBLISHED), toy: Toy = Toy()) -> dict:
    """Return all of Table 1 and Figure 2 as plain values, the content of toy.json."""
    return {"optimum": OPTIMUM, "start": START, "lr": toy.lr, "runs": [solve(xi, toy) for xi in xis]}
