"""The epochs of a trial one by one, for whoever decides after each whether it is to go on: successive halving, say."""

from __future__ import annotations

import time
from typing import Any

from oche.runs.directory import read_metrics
from oche.study.local import Job, begin, ended
from oche.study.processes.subprocess import Child

_LOOK = 0.2  # seconds between two looks at the process


class Follower:
    """A trial that goes on while it is asked for its next epoch. Those it has done already are given first, without work.

    ``metric``: only records that have it count. They are those of the final training if the trial has one, else of the search.
    """

    def __init__(self, job: Job, metric: str, threads: int) -> None:
        self.job, self.metric, self.threads = job, metric, threads
        self._given = 0
        self._child: Child | None = None

    def next(self) -> dict[str, Any]:
        """{"epoch", metric} of the next epoch, for which it waits; with the last one "done", when the trial is complete.

        Raises `RuntimeError` where the trial's process failed.
        """
        while True:
            over = self._over()  # asked first: what it has written since then is seen
            if self.job.found() and self._given >= len(self._records()) - 1:
                return {**self._fresh(), "done": True}
            if self._given < len(self._records()) - self._ends():
                return self._fresh()
            if over:
                raise RuntimeError(f"{self.job.name}: {self.job.result()}")
            time.sleep(_LOOK)

    def _over(self) -> bool:
        """Whether the trial's process has ended; it is begun where the epochs that there are do not suffice."""
        if self._child is None:
            if self._given < len(self._records()) - self._ends() or self.job.found():
                return False
            self._child = begin(self.job, self.threads, {})
        if self._child.exit is not None:
            return True
        if over := self._child.ended():
            ended(self.job, self._child)
        return over

    def _fresh(self) -> dict[str, Any]:
        """The next of the records, or the last of them once more; {} where there is none."""
        records = self._records()
        self._given = min(self._given + 1, len(records))
        found = records[self._given - 1] if records else {}
        return {name: found[name] for name in ("epoch", self.metric) if found}

    def _ends(self) -> bool:
        """Whether the newest record is the last: it is given when the trial is complete, which takes a little longer."""
        return bool(records := self._records()) and records[-1]["progress"] >= 1

    def _records(self) -> list[dict[str, Any]]:
        return [r for r in read_metrics(self.job.path / self.job.last) if r["epoch"] and r.get(self.metric) is not None]

    def stop(self) -> None:
        """Has it save and stop, and waits for that; a later `Follower` goes on."""
        if self._child is None or self._child.exit is not None:
            return
        self._child.ask()
        while not self._child.ended():
            time.sleep(_LOOK)
