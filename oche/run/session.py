"""A loop's session in a run directory: metrics, checkpoints, progress on the terminal, TensorBoard, interruption."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

from ..loop import Progress, Record, Session
from . import checkpoint
from .log import Interrupt, Log, tensorboard_writer
from .rundir import RunDir


class DirectorySession(Session):
    """Everything a loop says goes to ``run``; what `restore` returns is where the newest sound checkpoint left it."""

    def __init__(self, run: RunDir, log: Log, interrupt: Interrupt, every: float = 60.0) -> None:
        super().__init__()
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
        self.run.truncate_metrics(state.pop("metrics_size"))
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
            for name, value in record.items():
                if isinstance(value, int | float) and name not in ("step", "epoch"):
                    self.board.add_scalar(name, value, record["step"])

    def due(self) -> bool:
        return time.monotonic() - self._saved >= self.every

    def save(self, step: int, state: dict[str, Any]) -> None:
        checkpoint.save(self.run.path / "checkpoints", step, {**state, "metrics_size": self.run.metrics_size()})
        self._saved = time.monotonic()

    def distrust(self, step: int) -> None:
        checkpoint.drop(self.run.path / "checkpoints", step)

    def stopping(self) -> bool:
        return self.interrupt.asked

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        return self.log.progress(title)
