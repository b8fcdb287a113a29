"""The session of a loop in a run directory: metrics, checkpoints, progress on the terminal, TensorBoard, interruption.

Among several ranks, rank 0 keeps the session, and the others follow it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from oche.core.atomic_files import to_json
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.signals import Interrupt
from oche.core.tensorboard import tensorboard_writer
from oche.devices.process_group import ProcessGroup
from oche.runs import checkpoint
from oche.runs.directory import RunDir
from oche.training.loop import Interrupted, Progress, Record, Session

STOP = "stop"  # a listener returns this to end the loop
Listener = Callable[[dict[str, Any]], object]


class DirectorySession(Session):
    """A session that writes to the run directory ``run``. `restore` returns the newest undamaged checkpoint.

    ``every``: seconds between checkpoints. ``listeners`` are called with the record of each epoch.
    """

    def __init__(
        self,
        run: RunDir,
        log: Log,
        interrupt: Interrupt,
        every: float = 60.0,
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        super().__init__()
        self.listeners = listeners
        self.run, self.log, self.interrupt, self.every = run, log, interrupt, every
        self.board = tensorboard_writer(run.path)
        self._saved = time.monotonic()

    def restore(self) -> dict[str, Any] | None:
        found = checkpoint.load_latest(self.run.path / "checkpoints", say=self.log.warn)
        if found is None:
            self.run.truncate_metrics(0)
            return None
        step, state = found
        # Lines written after the checkpoint are written again by the steps that follow it.
        size, left = state.pop("metrics_size"), self.run.metrics_size()
        if left < size:
            raise OcheError(
                f"{self.run.path / 'metrics.jsonl'} has lost records that were there at the checkpoint of step {step} ({left:,} "
                f"of {size:,} bytes are left); restore the file, or start the run anew"
            )
        self.run.truncate_metrics(size)
        self.history = self.run.metrics()
        self.log.say(f"going on from step {step}")
        return state

    def record(self, record: Record) -> None:
        self.run.append_metric(record)
        self.history.append(record)
        if "collapse" in record:
            self.log.warn(record["collapse"])
        if "genotype" in record:
            self.run.write_text("genotype.txt", record["genotype"] + "\n")
        if self.board is not None:
            self.board.add(record)

    def tell_listeners(self) -> bool:
        """Call every listener with a plain copy of the newest record. An error gets a note that says how to go on."""
        answers: list[object] = []
        for listener in self.listeners:
            try:
                answers.append(listener(json.loads(to_json(self.history[-1]))))
            except BaseException as error:
                epoch = self.history[-1]["epoch"]
                error.add_note(
                    f"raised by on_epoch after epoch {epoch}; everything is saved; go on with: oche resume {self.run.path}"
                )
                raise
        return any(isinstance(answer, str) and answer == STOP for answer in answers)

    def due(self) -> bool:
        return time.monotonic() - self._saved >= self.every

    def save(self, step: int, state: dict[str, Any]) -> None:
        checkpoint.save(self.run.path / "checkpoints", step, {**state, "metrics_size": self.run.metrics_size()})
        self._saved = time.monotonic()

    def discard_checkpoint(self, step: int) -> None:
        checkpoint.drop(self.run.path / "checkpoints", step)

    def stopping(self) -> bool:
        return self.interrupt.asked

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        return self.log.progress(title)


class SharedSession(Session):
    """The session of a loop on several ranks. Rank 0's ``own`` session keeps everything; decisions are common to all ranks."""

    alone = False

    def __init__(self, own: Session, log: Log, interrupt: Interrupt, processes: ProcessGroup) -> None:
        super().__init__()
        self.own, self.log, self.interrupt, self.processes = own, log, interrupt, processes
        self.history = own.history
        self._due = self._stopping = False

    def restore(self) -> dict[str, Any] | None:
        """Return on every rank what rank 0 restores."""
        state = self.own.restore()
        data = self.processes.broadcast(b"" if state is None else checkpoint.to_bytes(state))
        self.history = json.loads(self.processes.broadcast(json.dumps(self.own.history).encode()))
        return state if self.processes.is_main or not data else checkpoint.from_bytes(data)

    def record(self, record: Record) -> None:
        self.own.record(record)
        self.history.append(record)

    def agree_on_seconds(self, seconds: float) -> float:
        """Return rank 0's elapsed time on every rank.

        `due` and `stopping` are agreed on in the same exchange, and hold until the next call: whether rank 0 wants a
        checkpoint, and whether any rank was asked to stop.
        """
        mine = (seconds, float(self.own.due())) if self.processes.is_main else (0.0, 0.0)
        common, due, asked = self.processes.sum_numbers([*mine, float(self.interrupt.asked)])
        self._due, self._stopping = due > 0, asked > 0
        return common

    def agree_on(self, found: bool) -> bool:
        return self.processes.sum_numbers([float(found)])[0] > 0

    def tell_listeners(self) -> bool:
        """Call the listeners on rank 0. Their errors are raised there, and as `Interrupted` on the other ranks."""
        asked, failure = False, None
        try:
            asked = self.own.tell_listeners()
        except BaseException as error:
            failure = error
        stops, failures = self.processes.sum_numbers([float(asked), float(failure is not None)])
        if failures:
            raise failure or Interrupted
        return stops > 0

    def due(self) -> bool:
        return self._due

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Save on rank 0, and return once it has written: when one rank ends, torchrun ends the others."""
        self.own.save(step, state)
        self._due = False
        self.processes.sum_numbers([0.0])

    def discard_checkpoint(self, step: int) -> None:
        self.own.discard_checkpoint(step)

    def stopping(self) -> bool:
        return self._stopping

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        return self.own.progress(title)


WorkSession = DirectorySession | SharedSession


def make_session(
    run: RunDir,
    log: Log,
    interrupt: Interrupt,
    every: float,
    processes: ProcessGroup,
    listeners: tuple[Listener, ...] = (),
) -> WorkSession:
    """Return the session of a loop whose run is ``run``. ``every`` and ``listeners``: as in `DirectorySession`."""
    own = DirectorySession(run, log, interrupt, every, listeners) if processes.is_main else None
    if own is not None and not processes.is_distributed:
        return own
    return SharedSession(own or Session(), log, interrupt, processes)
