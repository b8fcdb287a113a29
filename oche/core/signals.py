"""Interrupt a run safely: the first Ctrl-C finishes the current step and saves everything before the program stops."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_NOTICE_ALONE = b"\nstopping after this step; Ctrl-C once more stops at once, without saving\n"

_NOTICE_TO_ALL = b"\nall ranks stop after this step, once everything is saved\n"


class Interrupt:
    """A context in which the first SIGINT or SIGTERM only sets ``asked``. A second SIGINT raises KeyboardInterrupt.

    ``among``: torchrun started this process among several. Then a second SIGINT is ignored, because torchrun repeats to its
    processes the signal that the terminal has sent to all. torchrun kills processes that have not ended after 30 seconds.
    ``quiet``: print no notice, because another process does.

    The former handlers return at the end. Outside the main thread, where Python allows no handlers, the context does nothing. A
    signal that the process was started to ignore stays ignored. In nested contexts, a request to one is a request to both.
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
                if before is not None and before is not signal.SIG_IGN:  # None: set by C code, cannot be restored
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
            os.write(
                2, _NOTICE_TO_ALL if self.among else _NOTICE_ALONE
            )  # the only way to write that is safe in a signal handler
        self.asked = True
