"""Studies under way in processes of their own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from forked_oche import Oche
from oche.core.lock import is_locked
from oche.study.results import trial_results


def records(out: Path) -> int:
    """How much has been done so far."""
    return sum(file.read_bytes().count(b"\n") for file in out.glob("trials/*/*/metrics.jsonl"))


def workers(out: Path) -> list[int]:
    """Processes that are at work on a trial."""
    locks = [file for file in out.glob("trials/*/.lock") if is_locked(file.parent)]
    return [int(text) for file in locks if (text := file.read_text().strip())]


def wait_for(out: Path, count: int, driver: Oche | subprocess.Popen) -> None:
    end = time.monotonic() + 900
    while records(out) < count and driver.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)


def outcome(out: Path) -> list[tuple]:
    """All that a study found, without the times that it took."""
    timed = ("seconds", "step_ms", "other_seconds", "wall_s", "peak_mb", "cpu_s")
    return [
        (row.id, row.state, row.genotype, {k: v for k, v in row.numbers.items() if not k.endswith(timed)})
        for row in trial_results(out)
    ]
