"""Do jobs in processes of their own, as many at a time as resources allow; for `oche compare` and `oche study`."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from oche.core.console import Log, Row, format_duration
from oche.core.errors import plural
from oche.core.signals import Interrupt
from oche.study.processes.resources import ResourcePool, Slot

_POLL = 0.2  # seconds between two looks at the processes
_MISTAKE = 2  # exit code of a mistake in the arguments; another try would end the same way
_STOPPED = 130  # exit code of a process that was asked to stop, and saved


class Job(Protocol):
    """Work for a process of its own. A new process continues where an earlier one stopped."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path:
        """The file with the output of its processes."""
        ...

    def outcome(self) -> object:
        """A true value once the work is done."""
        ...

    def is_running(self) -> bool:
        """Whether any process works on it, started here or elsewhere."""
        ...

    def describe_outcome(self) -> str:
        """The result in words, or the reason why there is none."""
        ...

    def progress_row(self) -> Row:
        """Its live line: name, share of the work that is done, newest numbers."""
        ...


class Process(Protocol):
    """The process that does a job; see `oche.study.processes.oche_process.OcheProcess`."""

    @property
    def pid(self) -> int: ...
    @property
    def exit_code(self) -> int | None: ...
    def request_stop(self) -> None: ...
    def kill(self) -> None: ...
    def has_ended(self) -> bool: ...


J = TypeVar("J", bound=Job)


@dataclass
class Scheduler(Generic[J]):
    """Starts processes for jobs while ``resources`` has free slots.

    ``start`` begins a job, or continues it. ``after`` is called with each job whose process has ended. A job whose process
    crashes is tried up to ``retries`` more times, after the jobs that wait. ``head`` returns the numbers of the first live
    line, which is about all jobs.
    """

    resources: ResourcePool
    log: Log
    interrupt: Interrupt
    start: Callable[[J, Slot], Process]
    after: Callable[[J, Process], object] = lambda job, process: None
    head: Callable[[], Mapping[str, object]] = dict
    retries: int = 1
    _running: dict[J, tuple[Process, Slot]] = field(default_factory=dict, init=False)
    _start_time: float = field(default_factory=time.monotonic, init=False)
    _crashes: Counter[J] = field(default_factory=Counter, init=False)

    def run(self, jobs: Sequence[J]) -> None:
        """Do the unfinished ``jobs``.

        After one Ctrl-C it ends when the running jobs have saved; a second one raises, and kills them at once.
        """
        waiting = deque(job for job in jobs if not job.outcome())
        earlier = len(jobs) - len(waiting)
        try:
            with self.log.lines() as show:
                while self._running or (waiting and not self.interrupt.asked):
                    self._start(waiting)
                    show(lambda: self._rows(len(jobs), earlier, len(waiting)))
                    time.sleep(_POLL)
                    if self.interrupt.asked:
                        for process, _ in self._running.values():
                            process.request_stop()
                    self._collect(waiting)
        finally:
            for process, _ in self._running.values():
                process.kill()

    def _start(self, waiting: deque[J]) -> None:
        while waiting and not self.interrupt.asked and (slot := self._slot()) is not None:
            job = next(
                (job for job in waiting if not job.is_running()), None
            )  # a killed scheduler may have left a process behind
            if job is None:
                return
            waiting.remove(job)
            self._running[job] = (self.start(job, slot), slot)

    def _slot(self) -> Slot | None:
        # This reads files, so it is left out if nobody needs the shares.
        measured = self._running.items() if self.resources.measured else ()
        shares = {process.pid: job.progress_row()[1] for job, (process, _) in measured}
        return self.resources.free_slot([slot for _, slot in self._running.values()], shares)

    def _collect(self, waiting: deque[J]) -> None:
        for job, process in [(job, process) for job, (process, _) in self._running.items() if process.has_ended()]:
            del self._running[job]
            self.after(job, process)
            if self._crashed(job, process) and self._crashes[job] < self.retries:
                self._crashes[job] += 1
                self.log.warn(
                    f"{job.name}: {job.describe_outcome()} (exit code {process.exit_code}); trying again, see {job.log}"
                )
                waiting.append(job)
            else:
                self.log.say(f"{job.name}: {job.describe_outcome()}")

    def _crashed(self, job: J, process: Process) -> bool:
        return not job.outcome() and process.exit_code not in (_MISTAKE, _STOPPED) and not self.interrupt.asked

    def _rows(self, count: int, earlier: int, waiting: int) -> list[Row]:
        each = [job.progress_row() for job in self._running if job.is_running()]  # others are only starting
        done = count - waiting - len(self._running)
        work_done = done + sum(share for _, share, _ in each)
        here, rest = work_done - earlier, count - work_done
        left = (
            {"left": format_duration((time.monotonic() - self._start_time) * rest / here)}
            if here > 0.01 * (here + rest)
            else {}
        )
        return [(f"{done} of {plural(count, 'run')}", work_done / count, {**left, **self.head()}), *each]
