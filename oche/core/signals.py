"""Ctrl-C as a request: the step under way is finished, and everything saved, before the program stops."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_NOTICE = b"\nstopping after this step; Ctrl-C once more stops at once, without saving\n"

_SHARED = b"\nall ranks stop after this step, once everything is saved\n"


class Interrupt:
    """Within this context the first SIGINT or SIGTERM only sets ``asked``; a second SIGINT raises KeyboardInterrupt.

    ``among``: the process is one of several that torchrun started. Then a second SIGINT says nothing new: what the terminal
    sends to all processes, torchrun sends to its own once more; it kills those that have not ended after 30 seconds.
    ``quiet``: another process says what is going on.

    The handlers there were before come back at the end. Outside the main thread, where Python allows no handlers, it does
    nothing; a signal that the process was started to ignore stays ignored. Within another such context, what is asked in one
    is asked in both.
    """

    def __init__(self, among: bool = False, quiet: bool = False) -> None:
        self.asked, self.among, self.quiet = False, among, quiet
        self._before: dict[int, Any] = {}
        self._outer: Interrupt | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            around = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
            self._outer = around if isinstance(around, Interrupt) else None
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before is not None and before is not signal.SIG_IGN:  # None: set by C code, could not be put back
                    self._before[number] = signal.signal(number, self._handle)
            self.asked = self.asked or (self._outer is not None and self._outer.asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
        if self._outer is not None:
            self._outer.asked = self._outer.asked or self.asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT and not self.among:
            raise KeyboardInterrupt
        if not (self.asked or self.quiet):
            os.write(2, _SHARED if self.among else _NOTICE)  # the only way to write that a signal handler may take
        self.asked = True
