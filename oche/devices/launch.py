"""Start and join the processes that `torchrun` launches: who this process is, and which of them logs and reports errors."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta

from oche.core.console import Log, SilentLog
from oche.core.errors import OcheError
from oche.devices.process_group import SINGLE_PROCESS, ProcessGroup, leave_process_group

JOIN_TIMEOUT = timedelta(seconds=120)  # for all processes to find each other
SILENCE_TIMEOUT = timedelta(minutes=30)  # before a silent process counts as lost; one that ends is noticed at once


def _number(name: str) -> int:
    """Return the environment variable ``name`` as an integer. Raises `OcheError` if it is missing or no number."""
    text = os.environ.get(name, "")
    if not text.isdecimal():
        found = f"is {text!r}" if text else "is missing"
        raise OcheError(
            f"this process is one of several (WORLD_SIZE={os.environ['WORLD_SIZE']}), but {name} {found}; "
            "start them with torchrun --nproc-per-node=N -m oche …, or unset WORLD_SIZE"
        )
    return int(text)


def started_by_torchrun() -> bool:
    """Whether torchrun, or another launcher that sets the same variables, started more than one process."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def read_environment() -> ProcessGroup:
    """Return this process's place in its group, from the environment. Raises `OcheError` if the variables contradict."""
    if not started_by_torchrun():
        return SINGLE_PROCESS
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    rank, world_size, local_rank, local_world_size, _ = map(_number, names)
    if not os.environ.get("MASTER_ADDR"):
        raise OcheError("MASTER_ADDR is missing, the address of rank 0's machine; start with torchrun, which sets it")
    if not (rank < world_size and local_rank < local_world_size <= world_size):
        raise OcheError(
            f"RANK={rank} of WORLD_SIZE={world_size}, LOCAL_RANK={local_rank} of {local_world_size} cannot be; "
            "start with torchrun"
        )
    return ProcessGroup(rank, world_size, local_rank, local_world_size)


def make_log(quiet: bool) -> Log:
    """Return the log of this process; only rank 0 writes messages."""
    return Log(quiet=quiet) if os.environ.get("RANK", "0") == "0" or not started_by_torchrun() else SilentLog()


def reports_error(error: OcheError) -> bool:
    """Whether this process should report ``error`` to the user.

    It should not if another process reports it. Before the processes have found each other, only the first one of each machine
    reports: the others have the same files and arguments and meet the same error.
    """
    if not started_by_torchrun() or error.said:
        return not error.said
    return _joined is not None or os.environ.get("LOCAL_RANK", "0") == "0"


_joined: ProcessGroup | None = None


def join_process_group() -> ProcessGroup:
    """Join the process group and return this process's place in it. The group is joined once.

    Raises `OcheError` if the processes do not find each other.
    """
    global _joined
    processes = read_environment()
    if not processes.is_distributed or _joined is not None:
        return processes
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        raise OcheError("this build of torch has no torch.distributed; start oche without torchrun")
    if not dist.is_initialized():
        from torch.distributed.rendezvous import rendezvous

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        try:
            store, rank, world_size = next(rendezvous("env://", timeout=JOIN_TIMEOUT))
            # On one machine torchrun keeps its store when it restarts the processes.
            if processes.local_world_size == processes.world_size:
                store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # pyright: ignore[reportPrivateImportUsage]
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=SILENCE_TIMEOUT)
        except (RuntimeError, ValueError, OSError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = str(error).strip().split("\n")[0]
            raise OcheError(
                f"{processes.world_size} ranks have not found each other at {where} within {JOIN_TIMEOUT.seconds} s "
                f"({reason}); check that all were started and reach that address"
            ) from None
        atexit.register(leave_process_group)
    _joined = processes
    return processes
