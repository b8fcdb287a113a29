"""Runs in processes of their own that kill themselves in the midst of writing.

Processes are forked from a server that has everything imported and has computed nothing: a run costs no start of Python,
and no fork happens in a process whose threads it would break.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import signal
import sys
import time
from pathlib import Path

from forked_oche import CONTEXT

_CALLS = ("fsync", "replace", "rename", "unlink", "truncate", "mkdir")


class Crash:
    """Counts what is done to files below ``root``, each half of a write by itself, and kills the process at number ``at``."""

    def __init__(self, root: Path, at: int | None) -> None:
        self.root, self.at, self.count = str(root), at, 0

    def event(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        """For the rest of the process."""
        for name in _CALLS:
            setattr(os, name, self._counted(getattr(os, name)))
        builtins.open = io.open = self._opened(io.open)

    def _counted(self, call):
        def counted(*args, **more):
            self.event()
            return call(*args, **more)

        return counted

    def _opened(self, call):
        def opened(file, mode="r", *args, **more):
            if mode[0] == "r" or not str(file).startswith(self.root):
                return call(file, mode, *args, **more)
            self.event()
            return Torn(call(file, mode, *args, **more), self)

        return opened


class Torn:
    """A file each of whose writes is two, with a moment to be killed between them."""

    def __init__(self, file, crash: Crash) -> None:
        self._file, self._crash = file, crash

    def write(self, data) -> int:
        half = len(data) // 2
        first = self._file.write(data[:half])
        self._file.flush()
        self._crash.event()
        return first + self._file.write(data[half:])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def _work(config, out: Path, at: int | None, tick: float | None, said: Path) -> None:
    """Starts the run at ``out``, or goes on with it. ``tick``: seconds that each look at the clock takes."""
    from oche import api
    from oche.core.console import Log
    from oche.report import run_page
    from oche.runs.claim import is_run
    from oche.runs.config import SearchConfig
    from oche.training import loop

    run_page.write_report = lambda path: path  # drawn from files only, and tested elsewhere
    if tick is not None:
        loop.time = Ticks(tick)
    start = api.run_search if isinstance(config, SearchConfig) else api.run_train
    crash = Crash(out, at)
    with said.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        crash.arm()
        api.resume(out, quiet=False) if is_run(out) else start(config, out=out, overwrite=False, log=Log())
        print(json.dumps(crash.count))
        sys.stdout.flush()


class Ticks:
    """Stands for the module ``time``."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now


def run(config, out: Path, at: int | None = None, tick: float | None = None) -> tuple[int | None, str]:
    """(exit code, what was said); the last line said by a run that ended is how many events there were."""
    said = out.parent / f"{out.name}.txt"
    process = CONTEXT.Process(target=_work, args=(config, out, at, tick, said))
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
    return process.exitcode, said.read_text()
