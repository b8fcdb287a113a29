"""Scalars for TensorBoard, where it is installed."""

from __future__ import annotations

import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Protocol


class ScalarWriter(Protocol):
    """Takes one number at a time."""

    def add_scalar(self, name: str, value: float, step: int) -> None: ...


def tensorboard_writer(directory: str | Path) -> ScalarWriter | None:
    """A writer of an events file in ``directory``; None where tensorboard is not installed."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return None
    return _Writer(Path(directory), Event, RecordWriter)


class _Writer:
    """Writes each number at once, in the calling thread: torch's own writer loses its queue when the process is killed."""

    def __init__(self, directory: Path, event: Any, writer: Any) -> None:
        self._event, self._directory, self._make, self._file = event, directory, writer, None

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if self._file is None:  # a run that records nothing leaves no file
            now = time.time()
            file = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
            self._file = self._make((self._directory / file).open("xb"))
            self._write(wall_time=now, file_version="brain.Event:2")
        summary = {"value": [{"tag": name, "simple_value": float(value)}]}
        self._write(wall_time=time.time(), step=step, summary=summary)

    def _write(self, **fields: Any) -> None:
        assert self._file is not None
        self._file.write(self._event(**fields).SerializeToString())
        self._file.flush()
