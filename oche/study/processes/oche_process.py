"""An oche command in a process of its own, whose memory and time are recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oche.core.atomic_files import read_json, write_bytes
from oche.training.loop import Interrupted

_OCHE = (sys.executable, "-m", "oche.cli.supervised")


class OcheProcess:
    """The process of ``oche WORDS``. Its output is appended to the file ``log``. It saves and stops if this process ends.

    When it has ended, its usage is added to the file ``usage``, which covers all processes of the same work: ``peak_mb`` of
    the largest, ``wall_s`` and ``cpu_s`` of all together, ``exit`` the exit code of the last. ``environment`` has variables
    of its own. Linux and macOS only.
    """

    def __init__(
        self,
        words: Sequence[str],
        log: Path,
        usage: Path,
        threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._usage, self._began, self._asked = usage, time.monotonic(), False
        variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **(environment or {})}
        with log.open("a", encoding="utf-8") as file:
            file.write(f"oche {' '.join(words)}\n")
            file.flush()
            # In a process group of its own it gets no Ctrl-C; only `request_stop` stops it. Nobody writes to its input; the
            # system closes that when this process ends, see `oche.cli.supervised`.
            self._process = subprocess.Popen(
                [*_OCHE, *words], stdin=subprocess.PIPE, stdout=file, stderr=file, env=variables, process_group=0
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the number of the signal that killed it; None before it `has_ended`."""
        return self._process.returncode

    def request_stop(self) -> None:
        """Ask it to save and stop; see `oche.core.signals`."""
        if not self._asked:
            self._asked = True
            os.kill(self._process.pid, signal.SIGTERM)  # Popen.terminate may reap the process, and lose its usage

    def kill(self) -> None:
        """Kill it at once. The files of a run stay whole; see `oche.runs.directory`."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._reap(0)

    def has_ended(self) -> bool:
        """Whether it has ended. Call it until it returns True, and not again."""
        return self._reap(os.WNOHANG)

    def _reap(self, options: int) -> bool:
        pid, status, spent = os.wait4(self._process.pid, options)  # waits for this process only
        if pid == 0:
            return False
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.stdin is not None:
            self._process.stdin.close()
        _add(self._usage, spent, time.monotonic() - self._began, self._process.returncode)
        return True


@contextmanager
def record_usage(usage: Path) -> Iterator[None]:
    """Add the usage of this process to the file ``usage``, as `OcheProcess` does for a child process.

    For a process whose parent records nothing, such as a task of a job array. Linux and macOS only.
    """
    import resource

    began, code = time.monotonic(), 1
    try:
        yield
        code = 0
    except Interrupted:
        code = 130
        raise
    finally:
        _add(usage, resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began, code)


def _add(usage: Path, spent: Any, wall: float, code: int) -> None:
    """Add the resources that a process ``spent`` in ``wall`` seconds, and its exit code, to the file ``usage``."""
    before = read_json(usage)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in kilobytes on Linux
    now = {
        "peak_mb": max(before.get("peak_mb", 0), spent.ru_maxrss / unit),
        "wall_s": before.get("wall_s", 0) + wall,
        "cpu_s": before.get("cpu_s", 0) + spent.ru_utime + spent.ru_stime,
        "exit": code,
    }
    write_bytes(usage, json.dumps(now).encode())
