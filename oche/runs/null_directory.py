"""The run directory as ranks see it that do not write: the first one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oche.runs.directory import RunDir, State


class Elsewhere(RunDir):
    """Takes everything that a `RunDir` takes, and keeps nothing; the directory need not exist on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self) -> None:
        pass

    def write_bytes(self, name: str, data: bytes) -> None:
        del name, data

    def write_weights(self, name: str, state_dict: dict[str, Any], metadata: dict[str, str]) -> None:
        del name, state_dict, metadata

    def set_state(self, state: State, **fields: Any) -> None:
        del state, fields

    def append_metric(self, record: dict[str, Any]) -> None:
        del record

    def truncate_metrics(self, size: int) -> None:
        del size
