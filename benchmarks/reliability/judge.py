"""Run one command line in this process, and judge how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST = 1200  # most characters in a line of an error
PATIENCE = 20.0  # most seconds of CPU time of a case
WAIT = 300.0  # most seconds of a case on a busy machine


@dataclass(frozen=True)
class Case:
    """A command line.

    ``kept``: files that it must not change unless it succeeds. ``check``: a function that returns what is wrong after success.
    ``taken``: words of the error that ends it once the bad input was accepted, so that no work is done. ``run``: a call in
    Python that is judged instead of a command line, which ``words`` then describe.
    """

    words: tuple[str, ...]
    kept: tuple[Path, ...] = ()
    check: Callable[[], str] = lambda: ""
    taken: str = "\0"
    run: Callable[[], object] | None = None


@dataclass(frozen=True)
class Outcome:
    """``verdict``: refused (exit code 2, one line), failed (1, one line), taken (0); anything else is a fault of oche."""

    verdict: str
    said: str
    seconds: float

    @property
    def is_fault(self) -> bool:
        return self.verdict not in ("refused", "failed", "taken")


class TooSlow(BaseException):
    pass


def judge(case: Case) -> Outcome:
    """Run ``case`` and judge its end. For the main thread only, since timers stop a case after `PATIENCE` or `WAIT`."""
    before, began = _contents(case.kept), time.monotonic()
    code, said = call(list(case.words), case.run)
    seconds = time.monotonic() - began
    verdict = _verdict(code, said)
    if verdict == "refused" and case.taken in said:
        verdict = "taken"
    if verdict == "taken" and (wrong := case.check()):
        verdict, said = "wrong result", f"{said}\n{wrong}"
    elif verdict in ("refused", "failed") and (gone := _changed(before, _contents(case.kept))):
        verdict, said = "files changed", f"{said}\n{gone}"
    return Outcome(verdict, said, seconds)


def call(words: list[str], run: Callable[[], object] | None = None) -> tuple[int | str, str]:
    """Run ``oche WORDS``, or ``run`` in its place; return its exit code (or the exception) and its stderr."""
    from oche.cli import main as cli

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as err, open(os.devnull, "w") as out:
        with _streams(out, err), _clock():
            try:
                code: int | str = cli.main(words) if run is None else _python(run)
            except SystemExit as error:  # of --help
                code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            except TooSlow:
                code = "too slow"
            except BaseException:
                code = "traceback"
                traceback.print_exc()
        err.seek(0)
        return code, err.read()


def _python(run: Callable[[], object]) -> int:
    """Call ``run``, and report an `OcheError` as the command line does, but with all its lines."""
    from oche.core.errors import OcheError

    try:
        run()
    except OcheError as error:
        print(f"oche: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _verdict(code: int | str, said: str) -> str:
    if isinstance(code, str):
        return code
    if code == 0:
        return "untidy" if "Traceback" in said or "Warning:" in said else "taken"
    if code not in (1, 2):
        return f"exit code {code}"
    if problem := untidy(said):
        return problem
    return "refused" if code == 2 else "failed"


_NOTES = (  # a note may come before
    "oche: ", "checkpoint ", "plugin ", "the test images of ", "the validation images of ", "images of ", "the text ",
    "the manifest.safetensors of ",
)  # fmt: skip


def untidy(said: str) -> str:
    """What is wrong with an error message that should be one line; "" if nothing."""
    lines = said.split("\n")
    ours = [line for line in lines if line.startswith("oche: ")]
    others = [line for line in lines if line and not line.startswith(_NOTES)]
    if len(ours) != 1 or others or lines[-1]:
        return "not one line"
    if len(ours[0]) > LONGEST:
        return "a very long line"
    return "" if ours[0].isprintable() else "unprintable"


def _contents(paths: tuple[Path, ...]) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def _changed(before: dict[Path, bytes | None], after: dict[Path, bytes | None]) -> str:
    return ", ".join(str(path) for path in before if before[path] != after[path])


@contextlib.contextmanager
def _streams(out, err):
    """Redirect the streams of Python and of the system, to which C libraries write."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(err.fileno(), 2)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
        err.flush()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _clock():
    def ring(number, frame):
        raise TooSlow

    clocks = ((signal.SIGPROF, signal.ITIMER_PROF, PATIENCE), (signal.SIGALRM, signal.ITIMER_REAL, WAIT))
    before = [signal.signal(number, ring) for number, _, _ in clocks]
    for _, timer, seconds in clocks:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(clocks, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
