"""The controls of a fit: a plain residual network of like cost, and after a search a random cell of its space."""

from __future__ import annotations

import math

import torch

from oche.core.genotypes import resolve
from oche.cost import flops
from oche.data import Dataset
from oche.fitting.planner import FitPlan
from oche.fitting.priors import CONTROL, stem_of
from oche.networks.build import build
from oche.runs.config import FitConfig


def controls_of(config: FitConfig, plan: FitPlan) -> list[str]:
    """Return the names of the controls: a plain residual network, and after a search a random cell of its space."""
    if not config.control:
        return []
    same = plan.init is None and resolve(plan.genotype) == resolve(CONTROL) and plan.decision != "search"
    return [*([] if same else ["control-residual"]), *(["control-random"] if plan.decision == "search" else [])]


def like_cost(plan: FitPlan, data: Dataset) -> tuple[int, int]:
    """Return (channels, cells) of the residual network whose FLOPs are nearest to those of the planned network."""
    if resolve(plan.genotype) == resolve(CONTROL):
        return plan.channels, plan.cells
    nearest = min(range(4, 129, 4), key=lambda channels: abs(math.log(_flops(channels, plan, data) / plan.flops)))
    return nearest, 1


def _flops(channels: int, plan: FitPlan, data: Dataset) -> int:
    """Return the FLOPs of the residual network of ``channels`` and one block a stage, on one image."""
    stem = stem_of(CONTROL, plan.stem)
    with torch.device("meta"):
        net = build(CONTROL, classes=len(data.classes), channels=channels, cells=1, in_channels=data.channels,
                    image=data.image, stem=stem).eval()  # fmt: skip
        return flops(net, lambda: net(torch.empty(1, data.channels, *data.image)))
