"""The processes of a distributed run, and the messages they exchange. No other file talks to other processes.

``torchrun --nproc-per-node=N -m oche …`` starts N processes on each of one or several machines. Each process has a number, its
rank. All of them run the same program from the same seed, each on its own images. A value is called *common* if it is the same
on every rank (weights, logits, masks, noise of the architecture, records), and *own* if it differs (images, activations,
gradients of the rank's own images).

Rank 0 is the main process: it alone writes files and messages. Without torchrun there is one process and no group.
"""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from oche.core.errors import OcheError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
_SIGNS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "Broken pipe", "Timed out waiting", "Socket")


class ReportedElsewhere(OcheError):
    """An error that another rank reports to the user."""

    said = True


class ProcessLost(OcheError):
    """Another rank ended before its work was done."""

    exit_code = 1


@dataclass(frozen=True)
class ProcessGroup:
    """This process as one of ``world_size`` processes.

    ``local_rank`` is its number among the ``local_world_size`` processes of its machine. Names follow `torch.distributed`.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes."""
        return self.world_size > 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and messages (rank 0)."""
        return self.rank == 0

    def rank_stream(self, *parts: int | str) -> tuple[int | str, ...]:
        """Return the name of a random stream that belongs to this rank alone.

        Rank 0 keeps the name ``parts`` unchanged, so it draws what a single process would draw.
        """
        return (*parts, "rank", self.rank) if self.rank else parts

    def check_batch(self, name: str, batch: int, images: int, parts: int = 1) -> None:
        """Check that a ``batch`` of the ``images`` divides evenly among ranks, and each rank's share into ``parts``.

        ``name`` is the option to mention. Raises `OcheError` otherwise.
        """
        pieces = self.world_size * parts
        sharers = f"{self.world_size} ranks" + (f" x {parts} parts" if parts > 1 else "")
        if self.is_distributed and batch % pieces:
            below, above = batch // pieces * pieces, -(-batch // pieces) * pieces
            use = f"{below} or {above}" if below else f"{above}"
            raise OcheError(
                f"{name}={batch} does not divide among {sharers}; use {use} (it counts the images of all of them)"
            )
        if self.is_distributed and batch > images:
            raise OcheError(f"{name}={batch} is more than the {images} images there are to share; use a smaller one")

    # --- messages between processes, on the CPU -----------------------------------------------------------------------

    def gather_texts(self, text: str) -> list[str]:
        """Return the texts of all ranks, in the order of their ranks."""
        if not self.is_distributed:
            return [text]
        import torch
        import torch.distributed as dist

        data = text.encode()
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        longest = max(1, *(int(n) for n in sizes))
        mine = torch.frombuffer(bytearray(data.ljust(longest)), dtype=torch.uint8)
        found = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.world_size)]
        dist.all_gather(found, mine)
        return [t.numpy().tobytes()[: int(n)].decode() for t, n in zip(found, sizes, strict=True)]

    def broadcast(self, data: bytes) -> bytes:
        """Return the ``data`` that rank 0 passed."""
        if not self.is_distributed:
            return data
        import torch
        import torch.distributed as dist

        size = torch.tensor([len(data)])
        dist.broadcast(size, 0)
        parcel = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8) if self.is_main else None
        parcel = torch.empty(max(1, int(size)), dtype=torch.uint8) if parcel is None else parcel
        dist.broadcast(parcel, 0)
        return parcel.numpy().tobytes()[: int(size)]

    def broadcast_path(self, path: Path) -> Path:
        """Return rank 0's ``path``. Only rank 0 looks for free paths and makes directories."""
        return Path(self.broadcast(str(path).encode()).decode())

    def sum_numbers(self, values: Sequence[float]) -> list[float]:
        """Return each number summed over all ranks. All ranks wait for each other here."""
        if not self.is_distributed:
            return list(values)
        import torch

        return self.all_reduce(torch.tensor([*values], dtype=torch.float64)).tolist()

    def check_agreement(self, what: str, value: bytes) -> None:
        """Check that all ranks passed the same ``value``; ``what`` names it in the message.

        Raises `OcheError` on every rank otherwise.
        """
        digests = self.gather_texts(hashlib.sha256(value).hexdigest()) if self.is_distributed else [""]
        odd = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if odd:
            error = OcheError if self.is_main else ReportedElsewhere
            raise error(
                f"rank {odd[0]} and rank 0 do not agree on {what}; start all ranks with the same command, files and versions"
            )

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """Within, an `OcheError` on one rank becomes an error on every rank.

        The lowest rank that failed raises its own error. The others raise a `ReportedElsewhere` with the same text and exit code.
        The body must not exchange messages with other ranks.
        """
        found: OcheError | None = None
        try:
            yield
        except OcheError as error:
            if not self.is_distributed:
                raise
            found = error
        texts = self.gather_texts("" if found is None else f"{found.exit_code} {found}") if self.is_distributed else []
        failed = [rank for rank, text in enumerate(texts) if text]
        if found is not None and failed[0] == self.rank:
            raise found
        if failed:
            code, _, text = texts[failed[0]].partition(" ")
            reported = ReportedElsewhere(text)
            reported.exit_code = int(code)
            raise reported

    def first_on_each_machine(self, work: Callable[[], T]) -> T:
        """Return ``work()``, run by the first rank of each machine, then by the others.

        The others find what the first one downloaded or compiled.
        """
        results: list[T] = []
        for first in (True, False) if self.is_distributed else (True,):
            with self.raise_together():
                if (self.local_rank == 0) == first:
                    results.append(work())
        return results[0]

    @contextmanager
    def detecting_lost_processes(self) -> Iterator[None]:
        """Within, raise `ProcessLost` for errors which mean that another rank has ended."""
        try:
            yield
        except RuntimeError as error:
            if not self.is_distributed or not any(sign in str(error) for sign in _SIGNS):
                raise
            atexit.unregister(leave_process_group)  # it would wait for the lost process
            raise ProcessLost(f"rank {self.rank}: another rank ended; its last message says why") from None

    # --- tensors, on their device -------------------------------------------------------------------------------------

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum ``x`` over all ranks, in place and outside the autograd graph, and return it."""
        if self.is_distributed:
            import torch.distributed as dist

            dist.all_reduce(x)
        return x

    def broadcast_statistics(self, net: torch.nn.Module) -> None:
        """Copy the running statistics of rank 0 to every rank, as DistributedDataParallel does before each step."""
        if not self.is_distributed:
            return
        import torch
        import torch.distributed as dist

        # In the network's order, because the order of a set differs between processes.
        for dtype in dict.fromkeys(b.dtype for b in net.buffers()):
            buffers = [b for b in net.buffers() if b.dtype == dtype]
            flat = torch.cat([b.flatten() for b in buffers])
            dist.broadcast(flat, 0)
            for b, piece in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
                b.copy_(piece.view_as(b))


SINGLE_PROCESS = ProcessGroup()


def leave_process_group() -> None:
    """Destroy the process group of `torch.distributed`, if there is one."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def data_parallel(net: Any, device: torch.device, idle: bool) -> Any:
    """Return ``net`` wrapped in torch's DistributedDataParallel: its backward leaves the mean of all ranks' gradients.

    Every rank starts each step with the running statistics of rank 0. ``idle``: whether some weights get no gradient.
    """
    import warnings

    from torch.nn.parallel import DistributedDataParallel

    # Strides of 1 x 1 kernels differ only in dimensions of size 1, which is harmless.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(net, ids, find_unused_parameters=idle)
