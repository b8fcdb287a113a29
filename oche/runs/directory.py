"""Run directories: one folder holds the configuration, progress and results of a run.

    config.yaml  status.json  environment.json  genotype.txt  metrics.jsonl  summary.json  weights.safetensors
    checkpoints/  pictures/  report.html

Whenever the process or the machine stops, every file is whole: files are replaced in one step, and a line of metrics that
was cut short is dropped. One process at a time writes; any process may read.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from oche.core import atomic_files as atomic
from oche.core.errors import OcheError
from oche.core.lock import Lock
from oche.runs.checkpoint import save_weights
from oche.runs.claim import check_free, check_run, is_run, make_way

State = Literal["running", "interrupted", "complete", "failed"]


class RunDir:
    """A run directory open for writing. `create` and `open` make it; as a context manager it holds the directory's lock."""

    def __init__(self, path: Path, lock: Lock) -> None:
        self.path, self._lock = path, lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    @classmethod
    def create(
        cls,
        path: str | Path,
        config_text: str,
        kind: str,
        *,
        overwrite: bool = False,
        say: Callable[[str], object] | None = None,
    ) -> Self:
        """Create a run of ``kind`` ("search", "train", …) at ``path``, in state "running".

        Raises `OcheError` if something else is there: a run in use, a complete or an unfinished run, a file, or a folder
        with other files. With ``overwrite`` a run, and runs below it, are moved to ``PATH.old-YYYYMMDD-HHMMSS``. ``say`` is
        told the new path (by default it is printed to stderr).
        """
        path = Path(path) if Path(path).name not in ("", "..") else Path(path).resolve()
        if is_run(path):
            make_way(path, overwrite, say or _tell)
        check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OcheError(f"cannot make {path}: {error.strerror}; choose another --out") from error
        lock = Lock(path)
        try:
            check_free(path)  # another process may have been faster
            atomic.clean(path)
            run = cls(path, lock)
            run.write_text("config.yaml", config_text)
            now = _now()
            run.write_json("status.json", {"kind": kind, "state": "running", "started": now, "updated": now})
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the run at ``path`` to continue it. Raises `OcheError` if there is none, or it is in use."""
        path = Path(path)
        check_run(path)
        run = cls(path, Lock(path))
        try:
            for directory in (path, path / "checkpoints", path / "pictures"):
                atomic.clean(directory)
            run._drop_torn_line()
        except BaseException:
            run.close()
            raise
        return run

    # --- files ----------------------------------------------------------------------------------------------------

    def write_bytes(self, name: str, data: bytes) -> None:
        """Replace the file ``name`` in one step. Raises `OcheError` if that fails; the file is unchanged then."""
        atomic.write_bytes(self.path / name, data)

    def write_text(self, name: str, text: str) -> None:
        """Replace the file ``name`` by text, as `write_bytes`."""
        self.write_bytes(name, text.encode("utf-8"))

    def write_json(self, name: str, value: Any) -> None:
        """Replace the file ``name`` by plain values as JSON, as `write_bytes`. NaN and infinities become null."""
        self.write_text(name, atomic.to_json(value, indent=1) + "\n")

    def write_weights(self, name: str, state_dict: dict[str, Any], metadata: dict[str, str]) -> None:
        """Replace the file ``name`` by a state dict, as safetensors with ``metadata`` in the header, as `write_bytes`."""
        save_weights(self.path / name, state_dict, metadata)

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the mapping in the file ``name``; {} if there is none. Raises `OcheError` if it is damaged."""
        return atomic.read_json(self.path / name)

    # --- state ----------------------------------------------------------------------------------------------------

    def set_state(self, state: State, **fields: Any) -> None:
        """Write status.json. ``fields`` are further keys; they replace those of the state before."""
        if state not in get_args(State):
            raise ValueError(f"state {state!r} does not exist; use one of {', '.join(get_args(State))}")
        before = self.read_json("status.json")
        kept = {"kind": before.get("kind"), "state": state, "started": before.get("started"), "updated": _now()}
        self.write_json("status.json", {**kept, **fields})

    @property
    def state(self) -> str:
        """running (also if it was killed while running), interrupted, complete or failed."""
        return str(self.read_json("status.json").get("state", "failed"))

    @property
    def kind(self) -> str:
        """The kind given to `create`."""
        return str(self.read_json("status.json").get("kind", ""))

    @property
    def summary(self) -> dict[str, Any]:
        """The results of a complete run; {} before."""
        return self.read_json("summary.json")

    # --- metrics --------------------------------------------------------------------------------------------------

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def append_metric(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl and flush it to disk. NaN and infinities become null.

        Raises `OcheError` if the line does not fit on the disk; the file is unchanged then.
        """
        line = atomic.to_json(record).encode("utf-8") + b"\n"
        size = self.metrics_size()
        try:
            with open(self._metrics, "ab", buffering=0) as file:
                try:
                    if file.write(line) < len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self._metrics, size)
                    raise
        except OSError as error:
            raise atomic.refused(self._metrics, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """Return all records so far, see `read_metrics`."""
        return read_metrics(self.path)

    def metrics_size(self) -> int:
        """Return the length of metrics.jsonl in bytes, for `truncate_metrics`."""
        return self._metrics.stat().st_size if self._metrics.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Cut metrics.jsonl to its first ``size`` bytes. A shorter file stays as it is."""
        if self.metrics_size() > size:
            try:
                with open(self._metrics, "r+b") as file:
                    file.truncate(size)
                    os.fsync(file.fileno())
            except OSError as error:
                raise atomic.refused(self._metrics, error) from error

    def _drop_torn_line(self) -> None:
        """Drop a last line that was cut short."""
        if self._metrics.exists():
            self.truncate_metrics(self._metrics.read_bytes().rfind(b"\n") + 1)


class NullRunDir(RunDir):
    """A run directory that discards every write. Ranks other than 0 use it, so their code needs no special case.

    The directory need not exist on this machine.
    """

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


# --- reading --------------------------------------------------------------------------------------------------------------


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the records of metrics.jsonl in the run directory ``path``. A last line that was cut short is ignored.

    Raises `OcheError` for damage elsewhere.
    """
    file = Path(path) / "metrics.jsonl"
    if not file.exists():
        return []
    lines = [line for line in file.read_bytes().split(b"\n") if line]
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_record(line))
        except ValueError:
            if number < len(lines):
                raise OcheError(
                    f"{file} line {number} is damaged: found {line[:40]!r}, expected JSON; remove it"
                ) from None
    return records


def _record(line: bytes) -> dict[str, Any]:
    """Return the record in ``line``. Raises ValueError if there is none."""
    record = atomic.parse_json(line)
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}")
    return record


_TAIL = 1 << 16  # bytes at the end of metrics.jsonl that hold a whole record


def last_metric(path: str | Path) -> dict[str, Any]:
    """Return the newest record in the run directory ``path``, also while it runs; {} if there is none. Reads only the
    file's end.
    """
    try:
        with (Path(path) / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return _record(file.read().split(b"\n")[-2])
    except (OSError, IndexError, ValueError):  # no record yet, or a longer one
        return {}


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
