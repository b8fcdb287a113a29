"""The epochs of a trial one by one, for early stopping: successive halving decides after each whether it continues."""

from __future__ import annotations

import time
from typing import Any

from oche.runs.directory import read_metrics
from oche.study.local import TrialJob, note_killed, start_process
from oche.study.processes.oche_process import OcheProcess

_POLL = 0.2  # seconds between two looks at the process


class TrialEpochs:
    """A trial that continues while it is asked for its next epoch. The epochs that it has done already come first.

    The epochs are those of the final training if the trial has one, else those of the search; only records with ``metric``
    count.
    """

    def __init__(self, job: TrialJob, metric: str, threads: int) -> None:
        self.job, self.metric, self.threads = job, metric, threads
        self._returned = 0
        self._process: OcheProcess | None = None

    def next(self) -> dict[str, Any]:
        """Wait for the next epoch; return its "epoch" and ``metric``. The last one has "done" too, once the trial is complete.

        Raises `RuntimeError` if the trial's process failed.
        """
        while True:
            ended = self._has_ended()  # checked first, so that its last records are not missed
            if self.job.outcome() and self._returned >= len(self._records()) - 1:
                return {**self._next_record(), "done": True}
            if self._returned < len(self._records()) - self._last_is_written():
                return self._next_record()
            if ended:
                raise RuntimeError(f"{self.job.name}: {self.job.describe_outcome()}")
            time.sleep(_POLL)

    def _has_ended(self) -> bool:
        """Whether the trial's process has ended. Start it first if the recorded epochs do not suffice."""
        if self._process is None:
            if self._returned < len(self._records()) - self._last_is_written() or self.job.outcome():
                return False
            self._process = start_process(self.job, self.threads, {})
        if self._process.exit_code is not None:
            return True
        if ended := self._process.has_ended():
            note_killed(self.job, self._process)
        return ended

    def _next_record(self) -> dict[str, Any]:
        """The next record, or the last one again; {} if there is none."""
        records = self._records()
        self._returned = min(self._returned + 1, len(records))
        found = records[self._returned - 1] if records else {}
        return {name: found[name] for name in ("epoch", self.metric) if found}

    def _last_is_written(self) -> bool:
        """Whether the newest record is the last. It is returned only when the trial is complete, a little later."""
        return bool(records := self._records()) and records[-1]["progress"] >= 1

    def _records(self) -> list[dict[str, Any]]:
        return [r for r in read_metrics(self.job.path / self.job.last) if r["epoch"] and r.get(self.metric) is not None]

    def stop(self) -> None:
        """Ask the process to save and stop, and wait for that. A later `TrialEpochs` continues the trial."""
        if self._process is None or self._process.exit_code is not None:
            return
        self._process.request_stop()
        while not self._process.has_ended():
            time.sleep(_POLL)
