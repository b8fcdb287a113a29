"""The steps of searches and trainings on images, built from plain values in the child process of a proof.

They are the steps of the run: the same network, method, optimizers, batch, image size and precision. The images are random, and
a penalty on the cost of the network is left out, because it is no part of the network's step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import nextafter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oche.bilevel.cuda_graph_replay import replay
from oche.bilevel.search import Search
from oche.core.architecture import Genotype
from oche.core.config.serialize import from_dict
from oche.core.errors import OcheError
from oche.core.plugins import load_plugins
from oche.data import Augment, Dataset, Resident
from oche.devices.engine import Engine
from oche.devices.mixed_precision import with_precision
from oche.kernels.choose import form as cell_form
from oche.kernels.choose import set_form
from oche.kernels.triton.cell import refusal
from oche.networks.forms import FormModule
from oche.proof.values import StepForm
from oche.runs.config import SearchConfig, TrainConfig
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training

PARTS = 4  # batches of random images in an epoch of each half


def settings_of(
    config: SearchConfig | TrainConfig, data: Dataset, tree: Mapping[str, Any], device: str
) -> dict[str, Any]:
    """Return plain values that describe the steps of ``config`` on images like ``data``. ``tree``: ``config`` as plain values.

    What does not change a step is left out: seed, length, paths of the data.
    """
    names = ("search", "space", "method") if isinstance(config, SearchConfig) else ("train", "genotype", "recipe")
    own = {name: tree[name] for name in names}
    part = "search" if isinstance(config, SearchConfig) else "train"
    own[part] = {k: v for k, v in own[part].items() if k not in ("epochs", "steps", "budget", "latencies", "target")}
    return {
        "kind": part, "config": own, "plugins": [str(path) for path in config.plugins], "device": device,
        "threads": config.threads, "image": [*data.image], "channels": data.channels, "classes": len(data.classes),
    }  # fmt: skip


def make(settings: Mapping[str, Any], form: StepForm | None) -> ImageStep:
    """Return the steps that ``settings`` describe, in ``form``; None: as plain modules in exact float32."""
    load_plugins(tuple(Path(path) for path in settings["plugins"]))
    exact = form is None
    if exact and settings["device"].startswith("cuda"):  # convolutions in TF32 are a form of their own
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    elif not exact:
        torch.backends.cudnn.allow_tf32 = True  # torch's default
    return ImageStep(settings, form or StepForm("plain"), exact)


class ImageStep:
    """Steps of a search or training, as `oche.proof.values.ProvableStep`."""

    def __init__(self, settings: Mapping[str, Any], form: StepForm, exact: bool) -> None:
        self.engine = Engine(settings["device"], settings["threads"], fused="plain")
        self.device = self.engine.device
        if settings["threads"]:
            torch.set_num_threads(settings["threads"])
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        make_task = _search if settings["kind"] == "search" else _training
        self.task = make_task(settings, self.engine, exact)
        self.reasons: list[str] = []
        _set_flow(self.task.net, form.flow, self.device)
        if form.graph and not replay(self.task, self.reasons.append):
            raise OcheError(self.reasons[-1].removeprefix("no CUDA graphs: "))

    def take(self, step: int) -> None:
        epoch, position = divmod(step, self.task.per_epoch())
        if position == 0:
            self.task.begin(epoch, 0)
        for meter in self.task.meters.values():
            meter.sums.zero_()
        self.before = [p.detach().clone() for p in self.task.weights]
        self.task.step(step, self._progress())
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _progress(self) -> float:
        """The last moment of the first stage of a search: after all warm-ups. Near the end of a training.

        Rates are small there, so all steps that are compared begin near the first weights, where rounding is amplified least.
        """
        return nextafter(self.task.method.stage_bounds(0)[1], 0.0) if isinstance(self.task, Search) else 0.95

    def evidence(self) -> dict[str, dict[str, Tensor]]:
        task = self.task
        weights = [*task.net.named_parameters()]  # in the order of task.weights
        logits = [*zip(task.groups, task.logits, strict=True)] if isinstance(task, Search) else []
        return {
            "loss": {name: _copy(meter.sums[0] / meter.sums[2].clamp_min(1)) for name, meter in task.meters.items()},
            "gradients": {name: _copy(w.grad) for name, w in weights if w.grad is not None},
            "logits": {name: _copy(a.grad) for name, a in logits if a.grad is not None},
            "statistics": {
                name: _copy(b) for name, b in task.net.named_buffers() if b.is_floating_point() and "running" in name
            },
            "weights": {n: _copy(w - b) for (n, w), b in zip(weights, self.before, strict=True)},
        }

    def state(self) -> dict[str, Tensor]:
        return {name: _copy(t) for name, t in self._tensors()}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, t in self._tensors():
                if name in state:
                    t.copy_(state[name])

    def _tensors(self) -> list[tuple[str, Tensor]]:
        """Every tensor that a step changes, by name."""
        found = [*self.task.tensors().items()]
        for part in ("w_opt", "a_opt", "optimizer"):
            optimizer = getattr(self.task, part, None)
            if optimizer is None:
                continue
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            found += [
                (f"{part}.{i}.{name}", t)
                for i, weight in enumerate(weights)
                for name, t in optimizer.state.get(weight, {}).items()
                if isinstance(t, Tensor)
            ]
        return found

    def obstacle(self) -> str:
        return self.reasons[-1].removeprefix("no CUDA graphs: ") if self.reasons else ""

    def memory(self) -> int | None:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None


def _copy(t: Tensor) -> Tensor:
    return t.detach().to("cpu", copy=True)


def _set_flow(net: nn.Module, flow: str, device: torch.device) -> None:
    """Let the cells of ``net`` compute in the form ``flow``. Raises `OcheError` if they cannot."""
    if flow != "plain" and not any(isinstance(module, FormModule) for module in net.modules()):
        raise OcheError(f"this network has no cells that compute in the form {flow!r}")
    if flow == "gpu" and (reason := refusal(device)):
        raise OcheError(reason)
    set_form(net, cell_form(flow))


def _search(settings: Mapping[str, Any], engine: Engine, exact: bool) -> Search:
    config = from_dict(SearchConfig, settings["config"])
    recipe = config.search
    if recipe.method.cost_penalty is not None:
        recipe = replace(recipe, penalty=recipe.method.regulariser)
    if exact:
        recipe = replace(recipe, precision="float32")
    images = _images(settings, recipe.batch, recipe.split)
    return Search(config.space, recipe, images, seed=0, engine=with_precision(engine, recipe.precision))


def _training(settings: Mapping[str, Any], engine: Engine, exact: bool) -> Training:
    config = from_dict(TrainConfig, settings["config"])
    recipe = config.train
    assert isinstance(recipe, Recipe)
    if exact:
        recipe = replace(recipe, precision="float32")
    genotype = Genotype.parse(config.genotype)
    return Training(
        genotype, recipe, _images(settings, recipe.batch, recipe.split), seed=0, engine=engine, title="proof"
    )


def _images(settings: Mapping[str, Any], batch: int, split: float) -> Dataset:
    """Return random images, `PARTS` batches for the smaller half."""
    share = min(split, 1 - split) or 1.0
    count = int(PARTS * batch / share) + 1
    channels, (h, w), classes = settings["channels"], settings["image"], settings["classes"]
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, channels, h, w), dtype=torch.uint8, generator=g)
    data = Resident(x, torch.arange(count) % classes)
    names = tuple(map(str, range(classes)))
    return Dataset("random", data, None, names, (0.5,) * channels, (0.25,) * channels, Augment())
