"""The environment of a run: versions, hardware, source commit.

Nothing here fails: an unknown value is None.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oche._version import __version__


def describe_environment(device: str = "cpu") -> dict[str, Any]:
    """Return a description of the machine and the software as plain values, for environment.json. Memory is in bytes.

    ``device``: the device of the run, as `oche.devices.engine.Engine` names it. A CUDA device is described too.
    """
    import numpy
    import torch

    return {
        "oche": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        **_gpu(device),
        "commit": source_commit(),
        "argv": sys.argv,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_model() -> str | None:
    """Return the name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def _gpu(device: str) -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available() or device.partition(":")[0] not in ("auto", "cuda"):
        return {}
    try:
        index = torch.device("cuda" if device == "auto" else device).index
        gpu = torch.cuda.get_device_properties(torch.cuda.current_device() if index is None else index)
    except (RuntimeError, AssertionError):  # a device that does not exist is refused where it is used
        return {}
    return {"gpu": gpu.name, "gpu_memory": gpu.total_memory, "cuda": torch.version.cuda}


def source_commit() -> str | None:
    """Return the commit of the source checkout that oche runs from, with "-dirty" if files differ from it; None if installed."""
    root = Path(__file__).resolve().parents[2]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:  # installed in a folder that lies within somebody else's repository
        return None
    head, changed = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    return head and head + ("-dirty" if changed else "")


def _git(root: Path, *args: str) -> str | None:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(root), *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3, env=plain, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
