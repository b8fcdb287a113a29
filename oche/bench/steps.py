"""The timed steps: steps of a search or of a training in a given form, on random images in memory.

The values of images do not change the time of a step, and no reading of data is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import nn

from oche.bench.settings import FORMS, REFERENCE, BenchConfig, Form
from oche.bilevel.cuda_graph_replay import replay
from oche.bilevel.search import Search
from oche.core.errors import OcheError
from oche.core.genotypes import DARTS_V2
from oche.data import Augment, Dataset, Resident
from oche.devices.engine import Engine
from oche.kernels import choose
from oche.kernels.triton.cell import refusal
from oche.methods import published
from oche.methods.recipe import SearchRecipe
from oche.networks.forms import FormModule
from oche.spaces import SPACES, Space
from oche.training.image_recipes import darts
from oche.training.image_trainer import Training

PROGRESS = 0.5  # progress of every step: after all warm-ups
EPOCH = 8  # steps of an epoch of the random images
METHODS: dict[str, Callable[..., SearchRecipe]] = {
    "first": published.darts,
    "second": lambda **sizes: published.darts(order=2, **sizes),
    "exact": published.darts_exact,
    "gdas": published.gdas,
    "pc-darts": published.pc_darts,
}


class NchwEngine(Engine):
    """An engine that keeps images and weights in the plain layout, NCHW."""

    def place(self, net: Any) -> Any:
        return net.to(device=self.device, dtype=self.dtype)

    def images(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(device=self.device, dtype=self.dtype).contiguous()


def use_form(net: nn.Module, flow: str) -> None:
    """Make the cells of ``net`` compute in the form ``flow``. Raises `OcheError` if they cannot."""
    if flow != "plain" and not any(isinstance(module, FormModule) for module in net.modules()):
        raise OcheError(f"this network has plain cells only, no {flow!r} ones")
    if flow == "gpu" and (reason := refusal(next(net.parameters()).device)):
        raise OcheError(reason)
    choose.set_form(net, choose.form(flow))


def use_cuda_graphs(task: Search | Training) -> None:
    """Replay the steps of ``task`` from CUDA graphs. Raises `OcheError` if that is impossible."""
    reasons: list[str] = []
    if not replay(task, reasons.append):
        raise OcheError("".join(reasons))


class Steps(Protocol):
    """A step at each call; ``sound`` returns whether all losses so far were numbers."""

    def __call__(self) -> None: ...
    def sound(self) -> bool: ...


@cache
def published_code() -> ModuleType:
    """Load benchmarks/published_code.py, which runs the code of DARTS and PC-DARTS.

    It is in a checkout of oche, not in an installed wheel. Raises `OcheError` if it is missing.
    """
    file = Path(__file__).parents[2] / "benchmarks" / "published_code.py"
    spec = spec_from_file_location("published_code", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise OcheError(
            "--reference works in a checkout of oche only, which has benchmarks/published_code.py; clone oche, or leave it out"
        )
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steps_of(setting: BenchConfig, work: str, form: str) -> Steps:
    """Return the steps of ``work`` in ``form``. Raises `OcheError` if ``form`` cannot do ``work``."""
    if form == REFERENCE:
        return published_code().published(setting, work)
    return OwnSteps(setting, work, FORMS[form])


class OwnSteps:
    """Steps of oche itself."""

    def __init__(self, setting: BenchConfig, work: str, form: Form) -> None:
        self.engine = (Engine if form.last else NchwEngine)(setting.device, setting.threads, fused="plain")
        if form.device not in ("", self.engine.device.type):
            raise OcheError(f"only for {form.device}, and this is {self.engine.device}")
        data = random_images(2 * EPOCH * setting.batch, setting.image)
        if work == "train":
            recipe = darts(channels=setting.train_channels, cells=setting.train_cells, batch=setting.batch)
            self.task = Training(DARTS_V2, recipe, data, seed=0, engine=self.engine, title=work)
        else:
            recipe, space = METHODS[work](batch=setting.batch), space_of(setting)
            if recipe.method.hypergrad.twice and form.flow not in ("plain", "shared"):
                raise OcheError(f"the form {form.flow!r} has no second derivatives")
            if form.graph and form.flow != "plain" and not recipe.method.relax.mixes:
                raise OcheError(
                    "methods that sample one candidate per edge have their own CUDA graph form; use 'graph'"
                )
            self.task = Search(space, recipe, data, seed=0, engine=self.engine)
        use_form(self.task.net, form.flow)
        if form.graph:
            use_cuda_graphs(self.task)
        self.steps_done = 0

    def __call__(self) -> None:
        epoch, position = divmod(self.steps_done, self.task.per_epoch())
        if position == 0:
            self.task.begin(epoch, 0)
        self.task.step(self.steps_done, PROGRESS)
        self.steps_done += 1

    def sound(self) -> bool:
        """Whether all losses were numbers. A form that computes nonsense may be fast."""
        return all(bool(meter.sums.isfinite().all()) for meter in self.task.meters.values())


def space_of(setting: BenchConfig) -> Space:
    """The space in the sizes of ``setting``. Raises `OcheError` for sizes that it does not have."""
    if setting.space not in SPACES:
        raise OcheError(f"unknown space {setting.space!r}; known: {', '.join(SPACES)}")
    space = SPACES[setting.space](image=(setting.image, setting.image))
    given = {name: value for name in ("channels", "cells", "nodes") if (value := getattr(setting, name)) is not None}
    if lacking := given.keys() - {f.name for f in fields(space)}:
        raise OcheError(f"space {setting.space!r} has no {' and no '.join(sorted(lacking))} to set; leave it out")
    return replace(space, **given, candidates=space.candidates[: setting.candidates])


def random_images(count: int, side: int) -> Dataset:
    """Return ``count`` random images of ten classes, each (3, side, side)."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=g)
    split = Resident(x, torch.randint(0, 10, (count,), generator=g))
    return Dataset("random", split, None, tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, Augment())
