"""Several processes on this machine that find each other as those of torchrun do, over gloo on 127.0.0.1."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from forked_oche import CONTEXT


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, what its function returned, or what was raised."""

    code: int | None
    result: Any
    error: str
    seconds: float


def crew(function: Callable[..., Any], folder: Path, *args: Any, count: int = 2, limit: float = 300) -> list[Ended]:
    """Calls ``function(*args)`` in ``count`` processes at once; what it returns is tensors, numbers and text."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    members = [
        CONTEXT.Process(target=_member, args=(function, folder / f"{rank}.pt", rank, count, port, args))
        for rank in range(count)
    ]
    for member in members:
        member.start()
    ends: list[Ended] = []
    for rank, member in enumerate(members):
        member.join(max(0.0, limit - (time.monotonic() - began)))
        if member.is_alive():
            member.kill()
            member.join()
        file = folder / f"{rank}.pt"
        result, error = torch.load(file, weights_only=True) if file.exists() else (None, "")
        ends.append(Ended(member.exitcode, result, error, time.monotonic() - began))
    return ends


def _member(function: Callable[..., Any], file: Path, rank: int, count: int, port: int, args: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    torch.set_num_threads(1)
    result, error, code = None, "", 0
    try:
        result = function(*args)
    except Exception as found:
        code = getattr(found, "exit_code", 1)
        error = f"{type(found).__name__}: {found}"
        if not hasattr(found, "said"):  # no `OcheError`
            traceback.print_exc()
    torch.save((result, error), file)
    os._exit(code) if code else None
