"""A convolution on a device, in the child process of a proof: does the device compute what the CPU computes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from oche.proof.prove import prove
from oche.proof.values import StatelessStep, Step, StepForm, Verdict


def try_devices(names: Sequence[str]) -> Verdict:
    """Return a verdict on the devices called ``names``, as torch names them, each a form of one convolution."""
    step = Step("oche.bench.device_test:make", {}, "a convolution", plain=False, steps=1)
    return prove(step, [StepForm(name) for name in names])


def make(settings: Mapping[str, Any], form: StepForm | None) -> Convolution:
    """Return a convolution on the device that ``form`` names; None: on the CPU."""
    del settings
    return Convolution("cpu" if form is None else form.name)


class Convolution(StatelessStep):
    """Forward and backward pass of one convolution."""

    def __init__(self, device: str) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(8, 16, 16, 16, generator=g).to(device)
        self.weight = torch.randn(32, 16, 3, 3, generator=g).to(device).requires_grad_()

    def take(self, step: int) -> None:
        self.weight.grad = None
        self.loss = torch.nn.functional.conv2d(self.x, self.weight).relu().mean()
        self.loss.backward()
        self.loss.item()  # waits for the device

    def evidence(self) -> dict[str, dict[str, Tensor]]:
        assert self.weight.grad is not None
        return {"loss": {"loss": self.loss.detach().cpu()}, "gradients": {"weight": self.weight.grad.cpu()}}
