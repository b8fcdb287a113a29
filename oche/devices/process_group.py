"""The only file that knows of other processes: who they are, and what they tell each other.

``torchrun --nproc-per-node=N -m oche …`` starts N processes, called ranks, on each of one or several machines. All run the
same program on the same seed, each on its own images. What is the same on every rank (weights, logits, masks, noise of the
architecture, records) is called common here, what differs (images, activations, gradients of one's images) own.

Rank 0 leads: it alone writes and speaks. Without torchrun there is one rank and no process group.
"""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from oche.core.console import Log, Mute
from oche.core.errors import OcheError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
GATHER = timedelta(seconds=120)  # for all ranks to find each other
SILENCE = timedelta(minutes=30)  # before a rank that says nothing counts as lost; one that ends is noticed at once
_SIGNS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "Broken pipe", "Timed out waiting", "Socket")


class Said(OcheError):
    """An error that another rank tells the user."""

    said = True


class Lost(OcheError):
    """Another rank ended in the midst of its work."""

    exit_code = 1


@dataclass(frozen=True)
class Ranks:
    """This process among ``count`` of them; ``local`` is its number among the ``beside`` ones of its machine."""

    rank: int = 0
    count: int = 1
    local: int = 0
    beside: int = 1

    @property
    def several(self) -> bool:
        return self.count > 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def own(self, *parts: int | str) -> tuple[int | str, ...]:
        """The name of a random stream of this rank alone; rank 0's is what a single process draws from."""
        return (*parts, "rank", self.rank) if self.rank else parts

    def check_batch(self, name: str, batch: int, images: int, parts: int = 1) -> None:
        """Raises `OcheError` where no batch of so many of ``images`` can be shared out, to every rank in as many ``parts``."""
        pieces = self.count * parts
        who = f"{self.count} ranks" + (f" x {parts} parts" if parts > 1 else "")
        if self.several and batch % pieces:
            below, above = batch // pieces * pieces, -(-batch // pieces) * pieces
            use = f"{below} or {above}" if below else f"{above}"
            raise OcheError(
                f"{name}={batch} does not divide among {who}; use {use} (it counts the images of all of them)"
            )
        if self.several and batch > images:
            raise OcheError(f"{name}={batch} is more than the {images} images there are to share; use a smaller one")

    # --- what ranks tell each other, on the host ----------------------------------------------------------------------

    def everyone(self, text: str) -> list[str]:
        """The texts of all ranks, in their order."""
        if not self.several:
            return [text]
        import torch
        import torch.distributed as dist

        data = text.encode()
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        room = max(1, *(int(n) for n in sizes))
        mine = torch.frombuffer(bytearray(data.ljust(room)), dtype=torch.uint8)
        found = [torch.empty(room, dtype=torch.uint8) for _ in range(self.count)]
        dist.all_gather(found, mine)
        return [t.numpy().tobytes()[: int(n)].decode() for t, n in zip(found, sizes, strict=True)]

    def told(self, data: bytes) -> bytes:
        """What rank 0 gave as ``data``."""
        if not self.several:
            return data
        import torch
        import torch.distributed as dist

        size = torch.tensor([len(data)])
        dist.broadcast(size, 0)
        parcel = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8) if self.leads else None
        parcel = torch.empty(max(1, int(size)), dtype=torch.uint8) if parcel is None else parcel
        dist.broadcast(parcel, 0)
        return parcel.numpy().tobytes()[: int(size)]

    def path(self, path: Path) -> Path:
        """Rank 0's: it looks for free places, and makes directories."""
        return Path(self.told(str(path).encode()).decode())

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each number summed over all ranks; also a place where they wait for each other."""
        if not self.several:
            return list(values)
        import torch

        return self.sum(torch.tensor([*values], dtype=torch.float64)).tolist()

    def agree(self, what: str, value: bytes) -> None:
        """Raises `OcheError` on every rank unless all gave the same ``value``."""
        digests = self.everyone(hashlib.sha256(value).hexdigest()) if self.several else [""]
        odd = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if odd:
            kind = OcheError if self.leads else Said
            raise kind(
                f"rank {odd[0]} and rank 0 do not agree on {what}; start all ranks with the same command, files and versions"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Where one rank's body raises `OcheError`, all raise: that one, or the first of several, its own, the others `Said`.

        The body must not talk to other ranks.
        """
        found: OcheError | None = None
        try:
            yield
        except OcheError as error:
            if not self.several:
                raise
            found = error
        texts = self.everyone("" if found is None else f"{found.exit_code} {found}") if self.several else []
        failed = [rank for rank, text in enumerate(texts) if text]
        if found is not None and failed[0] == self.rank:
            raise found
        if failed:
            code, _, text = texts[failed[0]].partition(" ")
            said = Said(text)
            said.exit_code = int(code)
            raise said

    def in_turn(self, work: Callable[[], T]) -> T:
        """``work()`` on one rank of each machine, then on the others: what the first has fetched or compiled, they find."""
        results: list[T] = []
        for first in (True, False) if self.several else (True,):
            with self.together():
                if (self.local == 0) == first:
                    results.append(work())
        return results[0]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises `Lost` for errors that mean that another rank has ended."""
        try:
            yield
        except RuntimeError as error:
            if not self.several or not any(sign in str(error) for sign in _SIGNS):
                raise
            atexit.unregister(_leave)  # which would wait for the one that is gone
            raise Lost(f"rank {self.rank}: another rank ended; what it said last tells why") from None

    # --- tensors, on their device -------------------------------------------------------------------------------------

    def sum(self, x: Tensor) -> Tensor:
        """``x`` summed over all ranks, in place; outside the graph."""
        if self.several:
            import torch.distributed as dist

            dist.all_reduce(x)
        return x

    def align(self, net: torch.nn.Module) -> None:
        """Gives every rank the running statistics of rank 0, as DistributedDataParallel does before each step."""
        if not self.several:
            return
        import torch
        import torch.distributed as dist

        # In the order in which the network has them: that of a set differs from process to process.
        for dtype in dict.fromkeys(b.dtype for b in net.buffers()):
            buffers = [b for b in net.buffers() if b.dtype == dtype]
            flat = torch.cat([b.flatten() for b in buffers])
            dist.broadcast(flat, 0)
            for b, piece in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
                b.copy_(piece.view_as(b))


ALONE = Ranks()


# --- who there is -----------------------------------------------------------------------------------------------------


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        found = f"is {text!r}" if text else "is missing"
        raise OcheError(
            f"this process is one of several (WORLD_SIZE={os.environ['WORLD_SIZE']}), but {name} {found}; "
            "start them with torchrun --nproc-per-node=N -m oche …, or unset WORLD_SIZE"
        )
    return int(text)


def several() -> bool:
    """Whether torchrun, or what sets the same variables, started more than one process."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def ranks_here() -> Ranks:
    """Who this process is, from its environment. Raises `OcheError` where that contradicts itself."""
    if not several():
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    rank, count, local, beside, _ = map(_number, names)
    if not os.environ.get("MASTER_ADDR"):
        raise OcheError("MASTER_ADDR is missing, the address of rank 0's machine; start with torchrun, which sets it")
    if not (rank < count and local < beside <= count):
        raise OcheError(
            f"RANK={rank} of WORLD_SIZE={count}, LOCAL_RANK={local} of {beside} cannot be; start with torchrun"
        )
    return Ranks(rank, count, local, beside)


def voice(quiet: bool) -> Log:
    """The log of this process: of several ranks only the first speaks."""
    return Log(quiet=quiet) if os.environ.get("RANK", "0") == "0" or not several() else Mute()


def speaks(error: OcheError) -> bool:
    """Whether this process tells the user of ``error``: not where another does, nor where the others of this machine, which
    have the same files and arguments, meet the same before they have found each other."""
    if not several() or error.said:
        return not error.said
    return _joined is not None or os.environ.get("LOCAL_RANK", "0") == "0"


_joined: Ranks | None = None


def join() -> Ranks:
    """The ranks, this one among them, able to talk. Raises `OcheError` where they do not find each other."""
    global _joined
    ranks = ranks_here()
    if not ranks.several or _joined is not None:
        return ranks
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        raise OcheError(
            "this build of torch knows no other processes (torch.distributed is missing); start oche by itself"
        )
    if not dist.is_initialized():
        from torch.distributed.rendezvous import rendezvous

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        try:
            store, rank, count = next(rendezvous("env://", timeout=GATHER))
            if ranks.beside == ranks.count:  # torchrun keeps the store of one machine when it starts ranks anew
                store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # pyright: ignore[reportPrivateImportUsage]
            dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=SILENCE)
        except (RuntimeError, ValueError, OSError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = str(error).strip().split("\n")[0]
            raise OcheError(
                f"{ranks.count} ranks have not found each other at {where} within {GATHER.seconds} s ({reason}); check that all "
                "were started and reach that address"
            ) from None
        atexit.register(_leave)
    _joined = ranks
    return ranks


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def parallel(net: Any, device: torch.device, idle: bool) -> Any:
    """``net`` as a module whose backward leaves the mean of all ranks' gradients, torch's DistributedDataParallel.

    All begin each step with the running statistics of rank 0. ``idle``: whether some weights get no gradient.
    """
    import warnings

    from torch.nn.parallel import DistributedDataParallel

    # Strides of 1 x 1 kernels differ in sides that have one entry, which means nothing.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(net, ids, find_unused_parameters=idle)
