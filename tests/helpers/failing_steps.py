"""Steps of a small regression for proofs, in forms that fail in every way. They run in child processes."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.proof.values import Step, StepForm

FAULTS = (
    "good", "raises", "refuses", "no memory", "wrong loss", "wrong gradient", "wrong small gradient", "wrong statistics",
    "later wrong", "nan", "falls back", "exits", "killed", "segfault", "hangs", "slow",
)  # fmt: skip
FORMS = {name: StepForm(name, about=f"a form that is {name}") for name in (*FAULTS, "plain")}


def step(**settings: Any) -> Step:
    """A step of five, compared each time."""
    return Step("failing_steps:make", settings, "a regression", steps=3)


def make(settings: Mapping[str, Any], form: StepForm | None) -> Regression:
    if form is None and settings.get("broken"):
        raise RuntimeError("no reference today")
    if form is None and settings.get("quits"):
        os._exit(0)
    if form is None and settings.get("silent"):
        time.sleep(600)
    return Regression("plain" if form is None else form.name)


class Regression:
    """A least-squares fit by gradient descent."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        g = torch.Generator().manual_seed(0)
        x, y = torch.randn(64, 8, generator=g), torch.randn(64, generator=g)
        self.x, self.y = x - x.mean(0), y - y.mean() + 0.003  # so that the gradient of the bias is small
        self.w, self.bias, self.mean = torch.zeros(8), torch.zeros(1), torch.zeros(8)
        if fault == "raises":
            raise RuntimeError("no kernel image is available\nmore lines")
        if fault == "refuses":
            raise OcheError("this form takes no regressions")
        if fault == "no memory":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    def take(self, step: int) -> None:
        fault = self.fault
        residual = self.x @ self.w + self.bias - self.y
        self.loss = residual.square().mean()
        self.grad, self.grad_bias = 2 * self.x.T @ residual / 64, 2 * residual.mean().reshape(1)
        self.mean.lerp_(self.x.square().mean(0), 0.1)
        if fault == "exits":
            os._exit(7)
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "segfault":
            ctypes.string_at(0)
        if fault == "hangs":
            time.sleep(600)
        time.sleep(0.2 if fault == "slow" else 0.02 if fault == "plain" else 0.0)
        if fault == "wrong loss":
            self.loss = self.loss * 1.01
        if fault == "wrong gradient" or (fault == "later wrong" and step == 2):
            self.grad = self.grad * 1.1
        if fault == "wrong small gradient":
            self.grad_bias = -self.grad_bias
        if fault == "wrong statistics":
            self.mean = self.mean * 1.01
        if fault == "nan":
            self.grad[0] = float("nan")
        self.w, self.bias = self.w - 0.1 * self.grad, self.bias - 0.1 * self.grad_bias

    def evidence(self) -> dict[str, dict[str, Tensor]]:
        gradients = {"w": self.grad.clone(), "bias": self.grad_bias.clone()}
        return {"loss": {"loss": self.loss}, "gradients": gradients, "statistics": {"mean": self.mean.clone()}}

    def state(self) -> dict[str, Tensor]:
        return {"w": self.w.clone(), "bias": self.bias.clone(), "mean": self.mean.clone()}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        self.w, self.bias, self.mean = (state[name].clone() for name in ("w", "bias", "mean"))

    def obstacle(self) -> str:
        return "a sum is read on the host" if self.fault == "falls back" else ""

    def memory(self) -> int | None:
        return 1 << 20
