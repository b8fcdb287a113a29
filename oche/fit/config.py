"""The configuration of `oche fit`: the data, the time, and whatever the user fixes instead of the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oche.core.budget import parse_duration
from oche.core.errors import OcheError
from oche.networks.macro import Stem
from oche.runs.config import Common

SHORTEST = 60.0  # seconds: reading data, timing steps and the report take a good part of less


@dataclass(frozen=True, kw_only=True)
class FitConfig(Common):
    """The configuration of a fit. None leaves a value to the planner. Raises `OcheError` for values out of range."""

    budget: str = "1h"
    """time until the network is trained, assessed and exported: 10m, 1h30m; controls come after it"""
    search: Literal["auto", "always", "never"] = "auto"
    """whether to search for cells: auto searches if the budget pays for a search that decides"""
    genotype: str | None = None
    """cells to train instead: a published name, a file, or the text of a genotype"""
    channels: int | None = None
    """width of the trained network before its first reduction"""
    cells: int | None = None
    """cells of the trained network; of a cell of NAS-Bench-201, in each of the three stages"""
    batch: int | None = None
    """images in a training step"""
    stem: Stem | None = None
    """the layers before the first cell: cifar, stride2, stride4, imagenet or none"""
    init: str = "auto"
    """weights to begin with: a training or a file of weights, none, or auto: those that oche ships, where they help"""
    control: bool = True
    """whether to train a plain residual network of like cost, and after a search a random cell, the same way for comparison"""
    export: bool = True
    """whether to export the network to ONNX, where the packages for it are installed"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds < SHORTEST:
            raise OcheError(f"budget={self.budget!r} is too short to train and assess a network; use 1m or more")
        for name in ("channels", "cells", "batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise OcheError(f"{name}={value} leaves nothing to train; use {name} >= 1, or leave it to the planner")
        if self.genotype is not None and self.search == "always":
            raise OcheError("genotype and search=always contradict each other; give one of them")

    @property
    def seconds(self) -> float:
        """The budget in seconds."""
        return parse_duration(self.budget)
