"""What is timed: steps of a search or of a training, on random images, in a given form.

Random images stand in for data: their values do not matter to the time. They lie in memory, so no reader is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Protocol

import torch
from torch import nn

from oche.bench.published_code import published
from oche.bench.settings import FORMS, REFERENCE, BenchConfig, Form
from oche.bilevel.cuda_graph_replay import replay
from oche.bilevel.search import Search
from oche.core.errors import OcheError
from oche.core.genotypes import DARTS_V2
from oche.data import Augment, Dataset, Resident
from oche.devices.engine import Engine
from oche.kernels import choose as fused
from oche.kernels.triton.cell import refusal
from oche.methods import published as methods
from oche.methods.recipe import SearchRecipe
from oche.networks.forms import FormModule
from oche.spaces import SPACES, Space
from oche.training.image_recipes import darts
from oche.training.image_trainer import Training

MIDDLE = 0.5  # progress of every step: after all warm-ups
EPOCH = 8  # steps of an epoch of the random images
METHODS: dict[str, Callable[..., SearchRecipe]] = {
    "first": methods.darts,
    "second": lambda **sizes: methods.darts(order=2, **sizes),
    "exact": methods.darts_exact,
    "gdas": methods.gdas,
    "pc-darts": methods.pc_darts,
}


class NchwEngine(Engine):
    """The plain layout of images and weights, NCHW."""

    def place(self, net: Any) -> Any:
        return net.to(device=self.device, dtype=self.dtype)

    def random_images(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(device=self.device, dtype=self.dtype).contiguous()


def use_form(net: nn.Module, flow: str) -> None:
    """Has the cells of ``net`` compute as ``flow`` says. Raises `OcheError` where they cannot."""
    if flow != "plain" and not any(isinstance(module, FormModule) for module in net.modules()):
        raise OcheError(f"this network has plain cells only, no {flow!r} ones")
    if flow == "gpu":
        if reason := refusal(next(net.parameters()).device):
            raise OcheError(reason)
    fused.set_form(net, fused.form(flow))


def use_cuda_graphs(task: Search | Training) -> None:
    """Has the steps of ``task`` replayed from CUDA graphs. Raises `OcheError` where they cannot be."""
    said: list[str] = []
    if not replay(task, said.append):
        raise OcheError("".join(said))


class Steps(Protocol):
    """One step a call; ``sound`` is whether all losses so far were numbers."""

    def __call__(self) -> None: ...
    def sound(self) -> bool: ...


def steps_of(setting: BenchConfig, work: str, form: str) -> Steps:
    """Raises `OcheError` where ``form`` cannot do ``work``."""
    if form == REFERENCE:
        return published(setting, work)
    return OwnSteps(setting, work, FORMS[form])


class OwnSteps:
    """oche's."""

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
                raise OcheError("one candidate an edge is recorded in a form of its own; see the form 'graph'")
            self.task = Search(space, recipe, data, seed=0, engine=self.engine)
        use_form(self.task.net, form.flow)
        if form.graph:
            use_cuda_graphs(self.task)
        self.done = 0

    def __call__(self) -> None:
        epoch, position = divmod(self.done, self.task.per_epoch())
        if position == 0:
            self.task.begin(epoch, 0)
        self.task.step(self.done, MIDDLE)
        self.done += 1

    def sound(self) -> bool:
        """Whether all losses were numbers: a form that computes nonsense may well be fast."""
        return all(bool(meter.sums.isfinite().all()) for meter in self.task.meters.values())


def space_of(setting: BenchConfig) -> Space:
    """The space in the sizes asked for."""
    if setting.space not in SPACES:
        raise OcheError(f"unknown space {setting.space!r}; known: {', '.join(SPACES)}")
    space = SPACES[setting.space](image=(setting.image, setting.image))
    given = {name: value for name in ("channels", "cells", "nodes") if (value := getattr(setting, name)) is not None}
    if lacking := given.keys() - {f.name for f in fields(space)}:
        raise OcheError(f"space {setting.space!r} has no {' and no '.join(sorted(lacking))} to set; leave it out")
    return replace(space, **given, candidates=space.candidates[: setting.candidates])


def random_images(count: int, side: int) -> Dataset:
    """``count`` random images, of ten classes."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=g)
    split = Resident(x, torch.randint(0, 10, (count,), generator=g))
    return Dataset("random", split, None, tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, Augment())
