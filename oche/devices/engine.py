"""The only file that knows devices: where tensors live, how convolutions are laid out, how many threads and ranks work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.devices.collectives import synchronise
from oche.devices.process_group import ALONE, Ranks, parallel
from oche.kernels.choose import Engine as Fused
from oche.kernels.choose import equip

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Engine:
    """One device of each of ``ranks``. ``name``: auto (a GPU if there is one), cpu, cuda, cuda:1, mps; ``threads`` 0 leaves
    torch's own number; ``fused``: how cells compute (see `oche.kernels.choose.choose`); ``sync``: whether BatchNorms normalise by the
    images of all ranks."""

    name: str = "auto"
    threads: int = 0
    dtype: torch.dtype = torch.float32
    fused: Fused = "auto"
    ranks: Ranks = ALONE
    sync: bool = False

    @cached_property
    def device(self) -> torch.device:
        name = self._own_name() if self.ranks.several else self.name
        if name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise OcheError(f"device {self.name!r} is not usable here ({reason}); use auto, cpu or cuda") from None
        if device.type == "cuda" and self.ranks.several:
            torch.cuda.set_device(device)  # where NCCL looks
        return device

    def _own_name(self) -> str:
        """The device of this rank: on a machine with GPUs one for each. Raises `OcheError` where they are too few."""
        if self.name == "cpu" or (self.name == "auto" and not torch.cuda.is_available()):
            return "cpu"
        if self.name not in ("auto", "cuda"):
            raise OcheError(
                f"device {self.name!r} is one for {self.ranks.beside} ranks of this machine; use cuda, which gives each its own, "
                "or cpu"
            )
        found = torch.cuda.device_count()
        if self.ranks.beside > found > 0:
            raise OcheError(
                f"{self.ranks.beside} ranks on this machine have {found} GPUs; use --nproc-per-node={found}, or --device cpu"
            )
        return f"cuda:{self.ranks.local}" if found else "cuda"

    @property
    def alone(self) -> Engine:
        """The same for what a rank does without the others."""
        return replace(self, name=str(self.device), ranks=ALONE)

    def place(self, net: N) -> N:
        """Moves a network to the device in channels_last: depthwise convolutions on CPU are several times faster so."""
        net = net.to(device=self.device, dtype=self.dtype)
        return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def equip(self, net: nn.Module, *, twice: bool = False, mixed: bool = True) -> str:
        """Has the cells of ``net`` compute in the fastest form for this device (see `oche.kernels.choose.choose`); says which and why.

        With synchronised BatchNorms that is the plain one: fused forms take statistics and sum in one go.
        """
        if not (self.sync and self.ranks.several):
            return equip(net, self.fused, self.device, self.dtype, twice=twice, mixed=mixed)

        if self.fused == "fused":
            raise OcheError(
                "engine='fused' cannot synchronise BatchNorms over ranks; use engine='auto', or sync_bn=False"
            )
        synchronise(net, self.ranks)
        equip(net, "plain", self.device, self.dtype)
        return f"as plain modules: BatchNorms are synchronised over {self.ranks.count} ranks, which fused forms cannot"

    def parallel(self, net: nn.Module, idle: bool) -> Any:
        """``net`` itself, or over several ranks a module that leaves the mean of their gradients.

        ``idle``: whether some weights get no gradient, which DistributedDataParallel must be told: it would wait for them.
        """
        return parallel(net, self.device, idle) if self.ranks.several else net

    def partly(self, net: Any, last: bool) -> AbstractContextManager[Any]:
        """Within, a backward through ``net``, which `parallel` gave, adds up own gradients; ranks exchange them with the last."""
        return nullcontext() if last or not self.ranks.several else net.no_sync()

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
