"""The only file that knows devices: where tensors live, how convolutions are laid out, how many threads work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import OcheError
from ..fused import Engine as Fused
from ..fused import equip

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Engine:
    """One device. ``name``: auto (a GPU if there is one), cpu, cuda, cuda:1, mps; ``threads`` 0 leaves torch's own number;
    ``fused``: how cells compute (see `oche.fused.choose`)."""

    name: str = "auto"
    threads: int = 0
    dtype: torch.dtype = torch.float32
    fused: Fused = "auto"

    @cached_property
    def device(self) -> torch.device:
        if self.name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise OcheError(f"device {self.name!r} is not usable here ({reason}); use auto, cpu or cuda") from None
        return device

    def place(self, net: N) -> N:
        """Moves a network to the device in channels_last: depthwise convolutions on CPU are several times faster so."""
        net = net.to(device=self.device, dtype=self.dtype)
        return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def equip(self, net: nn.Module, *, twice: bool = False, mixed: bool = True) -> str:
        """Has the cells of ``net`` compute in the fastest form for this device (see `oche.fused.choose`); says which and why."""
        return equip(net, self.fused, self.device, self.dtype, twice=twice, mixed=mixed)

    def images(self, x: Tensor) -> Tensor:
        """A prepared batch (B, C, H, W) as the network wants it."""
        return x.to(device=self.device, dtype=self.dtype, memory_format=torch.channels_last)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Within, torch's global generators start from ``seed``; they are put back as they were afterwards."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within, torch uses ``threads`` threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)
