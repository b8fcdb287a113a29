"""Draw the figures of docs/theory: the errors of the finite difference and of the Neumann series.

    python benchmarks/theory.py            # docs/images/theory-difference.svg and theory-neumann.svg, and what they show as text

The finite difference is compared with the exact product in double precision, on a small supernet for digits, with ReLU and with
the smooth GELU. The series is that of a Hessian with given eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
import tyro
from matplotlib.axis import Axis
from torch import Tensor, nn
from torch.func import functional_call

import oche
from oche.core.architecture import all_alive
from oche.core.atomic_files import write_bytes
from oche.data import load
from oche.methods.hypergradients import (
    FiniteDifference,
    FirstOrder,
    HyperGradient,
    Loss,
    Neumann,
    SgdStep,
    Tensors,
    exact,
)
from oche.methods.relaxations import Softmax
from oche.report.plots.style import MUTED, SERIES, new_figure, styled, svg
from oche.spaces import ConvSpace
from oche.training.losses import frozen_statistics

CANDIDATES = ("skip_connect", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_3x3")  # no max-pool, which is not smooth either
STEP = SgdStep(lr=0.025)
TYPES = {"float32": torch.float32, "float64": torch.float64}
SCALES = (0.5, 1.0, 1.9, 2.2)  # of the series, times the largest eigenvalue

Errors = dict[
    tuple[str, str], dict[float, list[float]]
]  # (activation, type) -> length of the step -> a value each seed


@dataclass(frozen=True)
class Theory:
    out: Path = Path("docs/images")
    """folder for the figures"""
    seeds: int = 3
    """seeds of networks and batches"""
    batch: int = 32
    threads: int = 1


def main(theory: Theory) -> None:
    torch.set_num_threads(theory.threads)
    errors, series = differences(theory), {scale: residuals(scale) for scale in SCALES}
    write_bytes(theory.out / "theory-difference.svg", svg(draw_differences(errors)).encode())
    write_bytes(theory.out / "theory-neumann.svg", svg(draw_series(series)).encode())
    for (activation, kind), found in errors.items():
        for length, values in found.items():
            print(f"{activation:5} {kind} {length:8.1e} " + " ".join(f"{v:.1e}" for v in values))


# --- finite differences -----------------------------------------------------------------------------------------------


def differences(theory: Theory) -> Errors:
    """Relative error of the mixed derivative for each length of the step in weight space."""
    errors: Errors = {}
    for activation, function in (("ReLU", F.relu), ("GELU", _gelu)):
        with patch.object(F, "relu", function):  # what nn.ReLU calls, too
            for seed in range(theory.seeds):
                truth, direct = (_gradient(theory, seed, h, torch.float64) for h in (exact, _AheadOnly()))
                for kind, dtype in TYPES.items():
                    for length in (10 ** (-k / 2) for k in range(15)):
                        found = _gradient(theory, seed, FiniteDifference(length), dtype)
                        error = float((found - truth).norm() / (truth - direct).norm())
                        errors.setdefault((activation, kind), {}).setdefault(length, []).append(error)
    return errors


def _gelu(x: Tensor, inplace: bool = False) -> Tensor:
    return F.gelu(x)


class _AheadOnly(HyperGradient):
    """The first of the two terms only: the gradient at the weights after one step."""

    def __call__(self, inner, outer, w: Tensors, a: Tensors, step: SgdStep) -> Tensors:
        leaves = tuple(x.detach().requires_grad_() for x in w)
        return FirstOrder()(inner, outer, step(leaves, torch.autograd.grad(inner(leaves, a), leaves)), a, step)


def _gradient(theory: Theory, seed: int, hypergrad: HyperGradient, dtype: torch.dtype) -> Tensor:
    """The gradient of the logits as one float64 vector. Random numbers are drawn in float64 and then rounded."""
    torch.manual_seed(seed)
    data = load("digits")
    space = oche.spaces.darts(channels=4, cells=3, nodes=2, candidates=CANDIDATES).fit(data)
    net = space.supernet().double().to(dtype)
    a = tuple((1e-3 * torch.randn(len(dag), len(CANDIDATES)).double()).to(dtype) for dag in space.groups.values())
    images, labels = data.train.gather(torch.randperm(len(data.train))[: 2 * theory.batch])
    images = ((images.double() - 78) / 96).to(dtype)
    inner, outer = (_loss(net, space, x, y) for x, y in zip(images.chunk(2), labels.chunk(2), strict=True))
    with frozen_statistics(net):
        found = hypergrad(inner, outer, tuple(net.parameters()), a, STEP)
    return torch.cat([g.flatten() for g in found]).double()


def _loss(net: nn.Module, space: ConvSpace, images: Tensor, labels: Tensor) -> Loss:
    names = [name for name, _ in net.named_parameters()]

    def loss(w: Tensors, a: Tensors) -> Tensor:
        pairs = zip(space.groups.items(), a, strict=True)
        mixes = {name: Softmax()(x, all_alive(dag, len(CANDIDATES)), dag, None, 0.0) for (name, dag), x in pairs}
        return F.cross_entropy(functional_call(net, dict(zip(names, w, strict=True)), (images, mixes)), labels)

    return loss


# --- the Neumann series -----------------------------------------------------------------------------------------------


def residuals(scale: float, terms: int = 30) -> list[float]:
    """Relative error of the gradient after 0, 1, ... ``terms`` products, of a Hessian with eigenvalues from 1 to 0.03."""
    values = torch.logspace(0, -1.5, 16, dtype=torch.float64)
    w, a = (torch.zeros(16, dtype=torch.float64),), (torch.zeros(16, dtype=torch.float64),)

    def inner(w: Tensors, a: Tensors) -> Tensor:  # the solution of the lower problem is w = a / values
        return (0.5 * values * w[0] ** 2 - a[0] * w[0]).sum()

    def outer(w: Tensors, a: Tensors) -> Tensor:
        return w[0].sum()

    truth = 1 / values
    found = [Neumann(k, scale)(inner, outer, w, a, STEP)[0] for k in range(terms + 1)]
    return [float((g - truth).norm() / truth.norm()) for g in found]


# --- figures ----------------------------------------------------------------------------------------------------------


@styled
def draw_differences(errors: Errors):
    """Draw one line per seed."""
    made = new_figure(7.4, 3.2)
    panels = made.subplots(1, 2, sharey=True)
    for axes, activation in zip(panels, ("GELU", "ReLU"), strict=True):
        for (kind, colour), width in zip(zip(TYPES, SERIES, strict=False), (2.4, 1.0), strict=True):
            found = errors[activation, kind]
            for seed, values in enumerate(zip(*found.values(), strict=True)):
                axes.plot([*found], values, color=colour, linewidth=width, label="" if seed else kind)
        axes.axvline(0.01, color=MUTED, linestyle="--", linewidth=1, label="published")
        axes.set(xscale="log", yscale="log")
        _plain(axes.xaxis, 2)
        _plain(axes.yaxis, 3)
        axes.set(xlabel="length of the step in the space of weights", title=activation)
    panels[0].set_ylabel("relative error of the mixed derivative")
    panels[0].legend(loc="upper left")
    return made


@styled
def draw_series(series: dict[float, list[float]]):
    made = new_figure(4.8, 3.1)
    axes = made.subplots()
    for (scale, values), colour in zip(series.items(), SERIES, strict=False):
        axes.plot(range(len(values)), values, "-", color=colour, label=f"σ λ = {scale:g}")
    axes.set(yscale="log")
    _plain(axes.yaxis, 1)
    axes.set(xlabel="products with the Hessian", ylabel="relative error of the gradient")
    axes.legend(loc="lower left")
    return made


def _plain(axis: Axis, decades: int) -> None:
    """Put ticks with plain numbers every ``decades`` decades."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(10.0**decades))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    main(tyro.cli(Theory, description=__doc__))
