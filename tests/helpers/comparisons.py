"""A comparison of methods on a small table of NAS-Bench-201."""

from __future__ import annotations

import json
from pathlib import Path

from oche.core.nasbench201 import parse
from oche.runs.directory import RunDir
from oche.study.comparison.settings import ComparisonConfig

CONVS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def setting(table: Path, out: Path, **fields) -> ComparisonConfig:
    fixed = dict(data="digits", table=table, out=out, seeds=(0,), steps=40, channels=2, limit=60, batch=8, tried=5)
    return ComparisonConfig(**{**fixed, "device": "cpu", **fields})


def put(
    out: Path, method: str, seed: int, accuracy: float, arch: str = CONVS, usage: dict | None = None, **more
) -> None:
    """A finished run as a search leaves it."""
    with RunDir.create(out / f"{method}-{seed}", "", "search") as run:
        run.write_text("genotype.txt", str(parse(arch)) + "\n")
        run.write_json(
            "environment.json", {"time": "2026-11-25T00:21", "commit": None, "torch": "2.13.0", "cpu": "chip"}
        )
        found = {
            "true_acc": accuracy / 100,
            "regret": (60 - accuracy) / 100,
            "steps": 40,
            "step_ms": 20.0,
            "seconds": 0.8,
        }
        run.write_json("summary.json", {**found, **more})
        run.set_state("complete")
    if usage is not None:
        (out / f"{method}-{seed}.json").write_text(json.dumps(usage))


def cells_of(text: str, method: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


TRAPS = """
import signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
"""
