"""Jobs in processes of their own, as many at a time as there is room: `oche compare` and `oche study` stand on it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .child import Child
from .interrupt import Interrupt
from .log import Log, Row
from .room import Room, Slot

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

    @property
    def usage_file(self) -> Path:
        """What they use, see `Child`."""
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


@dataclass
class Pool:
    """Where and how jobs are done.

    ``words``: the command of a job, without oche. ``after`` is called with each job whose process has ended. A job whose
    process crashes is tried ``again`` so many times, after those that wait. ``head``: numbers for the live line of the whole.
    """

    room: Room
    log: Log
    interrupt: Interrupt
    words: Callable[[Job], list[str]]
    after: Callable[[Job, Child], object] = lambda job, child: None
    head: Callable[[], Mapping[str, object]] = dict
    threads: int = 1
    again: int = 1
    _under_way: dict[Job, tuple[Child, Slot]] = field(default_factory=dict, init=False)
    _crashes: Counter[Job] = field(default_factory=Counter, init=False)

    def work(self, jobs: Sequence[Job]) -> None:
        """Does ``jobs``. Ends early if interrupted: when those under way have saved, or, by the exception of a second
        Ctrl-C, at once and without."""
        waiting = deque(jobs)
        try:
            with self.log.lines() as show:
                while self._under_way or (waiting and not self.interrupt.asked):
                    self._start(waiting)
                    show(lambda: self._rows(len(jobs), len(waiting)))
                    time.sleep(_LOOK)
                    if self.interrupt.asked:
                        for child, _ in self._under_way.values():
                            child.ask()
                    self._look(waiting)
        finally:
            for child, _ in self._under_way.values():
                child.kill()

    def _start(self, waiting: deque[Job]) -> None:
        while waiting and not self.interrupt.asked and (slot := self._slot()) is not None:
            job = next((job for job in waiting if not job.busy()), None)  # a pool that was killed may have left one
            if job is None:
                return
            waiting.remove(job)
            child = Child(self.words(job), job.log, job.usage_file, self.threads, slot)
            self._under_way[job] = (child, slot)

    def _slot(self) -> Slot | None:
        shares = {child: job.row_of_progress()[1] for job, (child, _) in self._under_way.items()}
        return self.room.free([slot for _, slot in self._under_way.values()], shares)

    def _look(self, waiting: deque[Job]) -> None:
        for job, child in [(job, child) for job, (child, _) in self._under_way.items() if child.ended()]:
            del self._under_way[job]
            self.after(job, child)
            if self._crashed(job, child) and self._crashes[job] < self.again:
                self._crashes[job] += 1
                self.log.warn(f"{job.name}: {job.result()} (exit code {child.exit}); once more, see {job.log}")
                waiting.append(job)
            else:
                self.log.say(f"{job.name}: {job.result()}")

    def _crashed(self, job: Job, child: Child) -> bool:
        return not job.found() and child.exit not in (_MISTAKE, _STOPPED) and not self.interrupt.asked

    def _rows(self, count: int, waiting: int) -> list[Row]:
        each = [job.row_of_progress() for job in self._under_way]
        left = waiting + sum(1 - share for _, share, _ in each)
        ready = f"{count - waiting - len(self._under_way)} of {count} runs"
        return [(ready, 1 - left / count, self.head()), *each]
