"""An oche command as a process of its own, whose memory and time are its own too."""

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

from oche.core import atomic_files as atomic
from oche.training.loop import Interrupted

_OCHE = (sys.executable, "-m", "oche.cli.supervised")


class Child:
    """The process of ``oche WORDS``. What it says is added to the file ``log``. It saves and stops if this process ends.

    What it used is kept in the file ``usage`` when it has ended, on top of what is there from before: ``peak_mb`` (of the
    largest), ``wall_s`` and ``cpu_s`` (of all together), ``exit`` (code of the last). ``environment``: variables of its own.
    Linux and macOS only.
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
            # A group of its own: Ctrl-C reaches whoever waits for it alone, and `ask` is the one way to stop it. Its input
            # is never written to; it ends when this process does, see `oche.cli.supervised`.
            self._process = subprocess.Popen(
                [*_OCHE, *words], stdin=subprocess.PIPE, stdout=file, stderr=file, env=variables, process_group=0
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit(self) -> int | None:
        """Its exit code, minus the number of the signal that killed it; None before it has `ended`."""
        return self._process.returncode

    def ask(self) -> None:
        """Has it save and stop, see `oche.core.signals`."""
        if not self._asked:
            self._asked = True
            os.kill(self._process.pid, signal.SIGTERM)  # Popen's own way may reap the process, and its use be lost

    def kill(self) -> None:
        """Ends it at once; the files of a run are whole all the same, see `oche.runs.directory`."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._reap(0)

    def ended(self) -> bool:
        """Whether it has; to be asked until it has, and not again."""
        return self._reap(os.WNOHANG)

    def _reap(self, options: int) -> bool:
        pid, status, spent = os.wait4(self._process.pid, options)  # of this process alone, whatever else runs
        if pid == 0:
            return False
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.stdin is not None:
            self._process.stdin.close()
        _add(self._usage, spent, time.monotonic() - self._began, self._process.returncode)
        return True


@contextmanager
def noted(usage: Path) -> Iterator[None]:
    """Keeps what this process used in the file ``usage``, as a `Child` does: for one that nobody waits for, such as a task of a
    job array. Linux and macOS only."""
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
    """Adds to the file ``usage`` what a process ``spent`` in ``wall`` seconds, and the code that it ended with."""
    before = atomic.read_json(usage)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in kilobytes here
    now = {
        "peak_mb": max(before.get("peak_mb", 0), spent.ru_maxrss / unit),
        "wall_s": before.get("wall_s", 0) + wall,
        "cpu_s": before.get("cpu_s", 0) + spent.ru_utime + spent.ru_stime,
        "exit": code,
    }
    atomic.write_bytes(usage, json.dumps(now).encode())
