"""How much main memory is free."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available() -> int:
    """Bytes that a program may still take: what Linux calls available, within a container's limit.

    Where there is no /proc/meminfo, half of the machine's memory; where even that cannot be learnt, 4 GB.
    """
    free = _linux()
    if free is None:
        free = _half_of_machine()
    return min(free, _container(free))


def _linux() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _half_of_machine() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 4 * 10**9


def _container(otherwise: int) -> int:
    """What a control group (version 2) leaves; page cache counts as used, so this errs to the safe side."""
    try:
        limit, used = ((_CGROUP / f"memory.{k}").read_text().strip() for k in ("max", "current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return otherwise
