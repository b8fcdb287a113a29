"""Jobs in processes of their own, as many at a time as there is room: `oche compare` and `oche study` stand on it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from oche.core.console import Log, Row, format_duration
from oche.core.signals import Interrupt
from oche.study.processes.resources import Room, Slot

_LOOK = 0.2  # seconds between two looks at the processes
_MISTAKE = 2  # exit code for what was asked wrongly, and would be again
_STOPPED = 130  # exit code of what was asked to stop, and saved


class Job(Protocol):
    """Work for a process of its own, that goes on from where an earlier process left it."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path:
        """What its processes say."""
        ...

    def found(self) -> object:
        """Something true once the work is done."""
        ...

    def busy(self) -> bool:
        """Whether a process is at work on it, of whomever."""
        ...

    def result(self) -> str:
        """What it reached, or why it reached nothing."""
        ...

    def row_of_progress(self) -> Row:
        """Its live line: name, share that is done, newest numbers."""
        ...


class Process(Protocol):
    """What does a job, see `oche.study.processes.subprocess.Child`."""

    @property
    def pid(self) -> int: ...
    @property
    def exit(self) -> int | None: ...
    def ask(self) -> None: ...
    def kill(self) -> None: ...
    def ended(self) -> bool: ...


J = TypeVar("J", bound=Job)


@dataclass
class Pool(Generic[J]):
    """Where and how jobs are done.

    ``start`` begins, or goes on with, a job. ``after`` is called with each job whose process has ended. A job whose process
    crashes is tried ``again`` so many times, after those that wait. ``head``: numbers for the live line of the whole.
    """

    room: Room
    log: Log
    interrupt: Interrupt
    start: Callable[[J, Slot], Process]
    after: Callable[[J, Process], object] = lambda job, process: None
    head: Callable[[], Mapping[str, object]] = dict
    again: int = 1
    _under_way: dict[J, tuple[Process, Slot]] = field(default_factory=dict, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _crashes: Counter[J] = field(default_factory=Counter, init=False)

    def work(self, jobs: Sequence[J]) -> None:
        """Does those of ``jobs`` that are not done. Ends early if interrupted: when those under way have saved, or, by the
        exception of a second Ctrl-C, at once and without."""
        waiting = deque(job for job in jobs if not job.found())
        earlier = len(jobs) - len(waiting)
        try:
            with self.log.lines() as show:
                while self._under_way or (waiting and not self.interrupt.asked):
                    self._start(waiting)
                    show(lambda: self._rows(len(jobs), earlier, len(waiting)))
                    time.sleep(_LOOK)
                    if self.interrupt.asked:
                        for process, _ in self._under_way.values():
                            process.ask()
                    self._look(waiting)
        finally:
            for process, _ in self._under_way.values():
                process.kill()

    def _start(self, waiting: deque[J]) -> None:
        while waiting and not self.interrupt.asked and (slot := self._slot()) is not None:
            job = next((job for job in waiting if not job.busy()), None)  # a pool that was killed may have left one
            if job is None:
                return
            waiting.remove(job)
            self._under_way[job] = (self.start(job, slot), slot)

    def _slot(self) -> Slot | None:
        # Files are read for it, so not where nobody looks at the shares.
        measured = self._under_way.items() if self.room.measured else ()
        shares = {process.pid: job.row_of_progress()[1] for job, (process, _) in measured}
        return self.room.free([slot for _, slot in self._under_way.values()], shares)

    def _look(self, waiting: deque[J]) -> None:
        for job, process in [(job, process) for job, (process, _) in self._under_way.items() if process.ended()]:
            del self._under_way[job]
            self.after(job, process)
            if self._crashed(job, process) and self._crashes[job] < self.again:
                self._crashes[job] += 1
                self.log.warn(f"{job.name}: {job.result()} (exit code {process.exit}); once more, see {job.log}")
                waiting.append(job)
            else:
                self.log.say(f"{job.name}: {job.result()}")

    def _crashed(self, job: J, process: Process) -> bool:
        return not job.found() and process.exit not in (_MISTAKE, _STOPPED) and not self.interrupt.asked

    def _rows(self, count: int, earlier: int, waiting: int) -> list[Row]:
        each = [job.row_of_progress() for job in self._under_way if job.busy()]  # not those that are only starting
        done = count - waiting - len(self._under_way)
        worth = done + sum(share for _, share, _ in each)
        here, rest = worth - earlier, count - worth
        left = {"left": format_duration((time.monotonic() - self._began) * rest / here)} if here > 0.01 * (here + rest) else {}
        return [(f"{done} of {count} runs", worth / count, {**left, **self.head()}), *each]
