"""Where the time of a step goes: one row for each kernel (on a GPU) or operation (on a CPU)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MOST = 30  # rows; all others come in one


def kernels(step: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """``name``, ``ms`` (its own, without what it calls), ``share`` and ``calls`` of one step, longest first."""
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as made:
        step()
        if gpu:
            torch.cuda.synchronize(device)
    rows = [
        {"name": e.key, "ms": (e.self_device_time_total if gpu else e.self_cpu_time_total) / 1000, "calls": e.count}
        for e in made.key_averages()
    ]
    whole = sum(row["ms"] for row in rows) or 1.0
    rows = sorted(({**row, "share": row["ms"] / whole} for row in rows if row["ms"] > 0), key=lambda row: -row["ms"])
    rest = {"name": "all others", **{key: sum(row[key] for row in rows[MOST:]) for key in ("ms", "calls", "share")}}
    return [*rows[:MOST], *([rest] if rows[MOST:] else [])]
