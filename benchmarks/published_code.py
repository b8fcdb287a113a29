"""Run the published code of DARTS (github.com/quark0/darts) or PC-DARTS from a checkout on torch 2, for `oche bench --reference`.

The published modules are imported unchanged. Three things are replaced from outside: ``utils``, which needs torchvision and a
type of tensor that torch has removed; ``.cuda()`` on machines without a GPU; and the loops of train_search.py and train.py,
a few lines that use functions that torch has removed.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from math import isfinite
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from oche.bench.settings import BenchConfig
from oche.core.errors import OcheError
from oche.devices.engine import Engine

RATE = 0.025
ARCHITECT = SimpleNamespace(momentum=0.9, weight_decay=3e-4, arch_learning_rate=3e-4, arch_weight_decay=1e-3)


def folder_for(setting: BenchConfig, work: str) -> Path | None:
    """The folder with the published code for ``work``: DARTS for first, second and train, PC-DARTS for pc-darts; None if none."""
    for path in setting.reference:
        folder = next((f for f in (path / "cnn", path) if (f / "model_search.py").is_file()), None)
        if folder is None:
            raise OcheError(f"--reference {path} holds no cnn/model_search.py; give a checkout of the published code")
        partial = "betas_normal" in (folder / "model_search.py").read_text(errors="replace")  # edge normalisation
        if work in (("pc-darts",) if partial else ("first", "second", "train")):
            return folder
    return None


def _sgd(net: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), RATE, momentum=0.9, weight_decay=3e-4)


class Published:
    """Steps of the published code. They read the loss in every step, as the published loops do."""

    def __init__(self, step: Callable[[], Tensor]) -> None:
        self.step, self.finite = step, True

    def __call__(self) -> None:
        self.finite &= isfinite(self.step().item())

    def sound(self) -> bool:
        return self.finite


def published(setting: BenchConfig, work: str) -> Published:
    """Return the steps of the published code.

    It changes the imports of this process, and torch on machines without a GPU, so call it in a child process only.
    """
    folder = folder_for(setting, work)
    if folder is None:
        raise OcheError(f"no checkout given by --reference has the code for {work!r}")
    _check(setting, work)
    device = Engine(setting.device).device
    _prepare_imports(folder, device)
    x, y = _batch(setting, device), torch.arange(setting.batch, device=device) % 10
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the width of every cell
        make = _training if work == "train" else _search
        return Published(make(setting, work, x, y, device))


def _check(setting: BenchConfig, work: str) -> None:
    fixed = {"image": 32} if work == "train" else {"space": "darts", "nodes": 4, "candidates": 8}
    odd = {name: value for name, want in fixed.items() if (value := getattr(setting, name)) not in (want, None)}
    if odd:
        raise OcheError(f"the published code has no {', '.join(f'{name}={value}' for name, value in odd.items())}")


def _prepare_imports(folder: Path, device: torch.device) -> None:
    sys.path.insert(0, str(folder))
    utils = ModuleType("utils")
    utils.__dict__["drop_path"] = _drop_path
    sys.modules["utils"] = utils
    warnings.filterwarnings("ignore", message="This overload of")  # add_(number, tensor): deprecated, and still there
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # as published
    else:
        for cls in (torch.Tensor, nn.Module):
            setattr(cls, "cuda", lambda self, *args, **fields: self.to(device))  # noqa: B010


def _drop_path(x: Tensor, probability: float) -> Tensor:
    """Drop whole images with ``probability`` and scale the others, in place, as published."""
    if probability > 0:
        keep = 1 - probability
        x.div_(keep).mul_(torch.empty(len(x), 1, 1, 1, device=x.device).bernoulli_(keep))
    return x


def _batch(setting: BenchConfig, device: torch.device) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(setting.batch, 3, setting.image, setting.image, generator=g).to(device)


def _search(setting: BenchConfig, work: str, x: Tensor, y: Tensor, device: torch.device) -> Callable[[], Tensor]:
    criterion = nn.CrossEntropyLoss().to(device)
    network: Any = import_module("model_search").Network
    net = network(setting.channels or 16, 10, setting.cells or 8, criterion).to(device)
    sgd = _sgd(net)
    architect: Any = import_module("architect").Architect(net, ARCHITECT)

    def step() -> Tensor:
        net.train()
        architect.step(x, y, x, y, RATE, sgd, unrolled=work == "second")
        sgd.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        sgd.step()
        return loss

    return step


def _training(setting: BenchConfig, work: str, x: Tensor, y: Tensor, device: torch.device) -> Callable[[], Tensor]:
    del work
    criterion = nn.CrossEntropyLoss().to(device)
    network: Any = import_module("model").NetworkCIFAR
    cells = import_module("genotypes").DARTS_V2
    net = network(setting.train_channels, 10, setting.train_cells, True, cells).to(device)
    net.drop_path_prob = 0.1  # in the middle
    sgd = _sgd(net)

    def step() -> Tensor:
        net.train()
        sgd.zero_grad()
        logits, auxiliary = net(x)
        loss = criterion(logits, y)
        (loss + 0.4 * criterion(auxiliary, y)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        sgd.step()
        return loss

    return step
