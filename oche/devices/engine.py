"""The device of a run: where tensors live, how convolutions are laid out, and how many threads and processes work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.devices.collectives import synchronise_batchnorms
from oche.devices.process_group import SINGLE_PROCESS, ProcessGroup, data_parallel
from oche.kernels.choose import EngineMode, apply_form, apply_named_form
from oche.kernels.cpu.build import Unavailable

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class ProvedForm:
    """The form of a step that a proof chose for this device (`oche.proof`).

    ``flow``: a form of `oche.kernels.choose`. ``graph``: whether steps are replayed from CUDA graphs. ``why``: the reason.
    """

    name: str
    flow: str = "plain"
    graph: bool = False
    why: str = ""


@dataclass(frozen=True)
class Engine:
    """The device of each of ``processes``.

    - ``name``: auto (a GPU if there is one), cpu, cuda, cuda:1 or mps.
    - ``threads``: the number of CPU threads; 0 keeps torch's own.
    - ``fused``: how cells compute (see `oche.kernels.choose.choose`).
    - ``sync``: whether BatchNorms normalise by the images of all processes.
    - ``proved``: the form that "auto" takes; None: the one that `oche.kernels.choose.choose` returns.
    """

    name: str = "auto"
    threads: int = 0
    dtype: torch.dtype = torch.float32
    fused: EngineMode = "auto"
    processes: ProcessGroup = SINGLE_PROCESS
    sync: bool = False
    proved: ProvedForm | None = None

    @cached_property
    def device(self) -> torch.device:
        """The torch device. Raises `OcheError` if it cannot be used here."""
        name = self._own_name() if self.processes.is_distributed else self.name
        if name == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise OcheError(f"device {self.name!r} is not usable here ({reason}); use auto, cpu or cuda") from None
        if device.type == "cuda" and self.processes.is_distributed:
            torch.cuda.set_device(device)  # NCCL uses the current device
        return device

    def _own_name(self) -> str:
        """Return the device of this process; each process of a machine has a GPU of its own. Raises `OcheError` if
        there are too few.
        """
        if self.name == "cpu" or (self.name == "auto" and not torch.cuda.is_available()):
            return "cpu"
        if self.name not in ("auto", "cuda"):
            raise OcheError(
                f"device {self.name!r} is one device for {self.processes.local_world_size} ranks of this machine; "
                "use cuda, which gives each its own, or cpu"
            )
        found = torch.cuda.device_count()
        if self.processes.local_world_size > found > 0:
            raise OcheError(
                f"{self.processes.local_world_size} ranks on this machine have {found} GPUs; "
                f"use --nproc-per-node={found}, or --device cpu"
            )
        return f"cuda:{self.processes.local_rank}" if found else "cuda"

    @property
    def replays(self) -> bool:
        """Whether steps are replayed from CUDA graphs: on request ("fused"), or because that was proved here."""
        if self.device.type != "cuda":
            return False
        return self.fused == "fused" or (self.proved is not None and self.proved.graph)

    @property
    def single_process(self) -> Engine:
        """The same engine for work that a process does without the others."""
        return replace(self, name=str(self.device), processes=SINGLE_PROCESS)

    def place(self, net: N) -> N:
        """Move a network to the device in channels_last, in which depthwise convolutions on CPUs are several times as
        fast.
        """
        net = net.to(device=self.device, dtype=self.dtype)
        return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def apply_form(self, net: nn.Module, *, twice: bool = False, mixed: bool = True) -> str:
        """Let the cells of ``net`` compute in the fastest form for this device. Return which form, and why.

        ``twice``: second derivatives are needed. ``mixed``: edges have several candidates. With synchronised
        BatchNorms the form is the plain one, because fused forms compute statistics and sums in one pass. Raises
        `OcheError` as `oche.kernels.choose.choose` does.
        """
        if self.proved is not None and self.fused == "auto":
            with suppress(Unavailable):  # compiled kernels of a run that is resumed may be gone
                return apply_named_form(net, self.proved.flow, self.proved.why)
        if not (self.sync and self.processes.is_distributed):
            return apply_form(net, self.fused, self.device, self.dtype, twice=twice, mixed=mixed)

        if self.fused == "fused":
            raise OcheError(
                "engine='fused' cannot synchronise BatchNorms over ranks; use engine='auto', or sync_bn=False"
            )
        synchronise_batchnorms(net, self.processes)
        apply_form(net, "plain", self.device, self.dtype)
        count = self.processes.world_size
        return f"as plain modules: BatchNorms are synchronised over {count} ranks, which fused forms cannot do"

    def data_parallel(self, net: nn.Module, idle: bool) -> Any:
        """Return ``net``, or with several processes a wrapper whose backward leaves the mean of their gradients.

        ``idle``: whether some weights get no gradient. DistributedDataParallel must know, or it waits for them.
        """
        return data_parallel(net, self.device, idle) if self.processes.is_distributed else net

    def delay_gradient_sync(self, net: Any, last: bool) -> AbstractContextManager[Any]:
        """Within, a backward of a `data_parallel` network only adds to this process's gradients, unless it is the
        ``last`` one.
        """
        return nullcontext() if last or not self.processes.is_distributed else net.no_sync()

    def images(self, x: Tensor) -> Tensor:
        """Return a prepared batch (B, C, H, W) on the device, in channels_last and the network's dtype."""
        return x.to(device=self.device, dtype=self.dtype, memory_format=torch.channels_last)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Within, torch's global generators start from ``seed``. They are restored afterwards."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield

    @contextmanager
    def using_threads(self) -> Iterator[None]:
        """Within, torch uses ``threads`` threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)
