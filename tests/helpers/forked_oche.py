"""``python -m oche`` in processes that cost no start of Python: they are forked from a server that has everything imported.

The server has computed nothing, so that no fork happens in a process whose threads it would break. All else is as in a
process of its own: arguments, environment, output, process group, signals, exit code. The processes that such a process
starts by `oche.study.processes.oche_process` are forked from it in the same way. Reports are empty files.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from oche.core import lock

CONTEXT = get_context("forkserver")
_OURS = [
    "oche.api", "oche.report.run_page", "oche.runs.config", "oche.runs.execute", "oche.runs.session", "oche.bilevel.search",
    "oche.training.image_trainer", "oche.data.loading", "oche.kernels.choose", "oche.cli.search", "oche.cli.train",
    "oche.cli.runs", "oche.study.run", "oche.study.trial", "oche.study.local", "oche.study.comparison.run",
    "oche.study.validate",
]  # fmt: skip
_DEFERRED = ["torch.utils.flop_counter", "tensorboard.summary.writer.record_writer"]


def preload() -> None:
    """Say what the server imports. There is one server for each test process, which starts with the first process."""
    CONTEXT.set_forkserver_preload(_OURS + _DEFERRED)


preload()


class Oche:
    """A running ``oche WORDS`` with stdout and stderr in files. Its interface is that of `subprocess.Popen`."""

    def __init__(self, *words: object, said: Path, new_session: bool = False) -> None:
        self.out, self.err = said.with_suffix(".out"), said.with_suffix(".err")
        task = (list(map(str, words)), self.out, self.err, dict(os.environ), new_session)
        self._process = CONTEXT.Process(target=_run, args=task)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still at work after {timeout} s"
        return self._process.exitcode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """(what it wrote to stdout, what to stderr), after its end."""
        self.wait(timeout)
        return self.out.read_text(), self.err.read_text()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_code(code: str, said: Path, **environment: str) -> tuple[int, str]:
    """Run ``code`` as ``python -c`` would; return its exit code and all that it wrote, to the file ``said`` too."""
    process = CONTEXT.Process(target=_execute, args=(code, said, {**os.environ, **environment}))
    process.start()
    process.join(300)
    assert process.exitcode is not None, f"still at work after 300 s: {said.read_text()}"
    return process.exitcode, said.read_text()


def _execute(code: str, said: Path, environment: Mapping[str, str]) -> None:
    _prepare(environment, said, said)
    exec(compile(code, "<string>", "exec", dont_inherit=True), {"__name__": "__main__"})


def _prepare(environment: Mapping[str, str], out: Path, err: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, file in ((1, out), (2, err)):
        with file.open("ab") as opened:
            os.dup2(opened.fileno(), number)


def _run(words: list[str], out: Path, err: Path, environment: Mapping[str, str], new_session: bool) -> None:
    from oche.report import run_page
    from oche.study.processes import oche_process

    if new_session:
        os.setsid()
    _prepare(environment, out, err)
    run_page.write_report = lambda path: (path / "report.html").touch()  # drawn from files only, and tested elsewhere
    oche_process.subprocess = SimpleNamespace(Popen=_Forked, PIPE=-1)  # type: ignore[assignment]
    _run_module("oche", words)


def _run_module(name: str, words: list[str]) -> None:
    sys.argv = [name, *words]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


class _Forked:
    """What `oche_process.OcheProcess` uses of `subprocess.Popen`, for ``python -m MODULE WORDS``."""

    def __init__(
        self, command: list[str], stdin: int, stdout: IO, stderr: IO, env: Mapping[str, str], process_group: int
    ) -> None:
        python, option, module, *words = command
        assert (python, option, stdin, stdout) == (sys.executable, "-m", -1, stderr)
        read, write = os.pipe()
        self.pid, self.returncode = os.fork(), None
        if self.pid == 0:
            _end_with(lambda: self._become(module, words, read, stdout.fileno(), env, process_group))
        os.close(read)
        self.stdin: Any = os.fdopen(write, "wb")

    def _become(
        self, module: str, words: list[str], read: int, said: int, env: Mapping[str, str], process_group: int
    ) -> None:
        os.setpgid(0, process_group)
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(number, handler)
        for number, file in enumerate((read, said, said)):
            os.dup2(file, number)
        gc.freeze()  # no file of the parent is closed under a number that is another file's by then
        os.closerange(3, 1000)
        os.environ.clear()
        os.environ.update(env)
        lock._mine.clear()  # locks are of processes, and those of the parent stay there
        _run_module(module, words)


def _end_with(work: Callable[[], None]) -> None:
    """Do ``work``, then end this process with its exit code, as Python does."""
    code: Any = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
