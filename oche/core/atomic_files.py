"""Write files atomically, and read and write JSON.

After a crash of the process or the machine a file is either as it was before or wholly new.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from oche.core.errors import OcheError

_PREFIX = ".tmp-"


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically and durably. Missing directories are made.

    The bytes are written to a temporary file beside ``path`` and flushed to disk; then that file is renamed to ``path``.

    Raises `Unwritten` if the disk is full or the place cannot be written. ``path`` is unchanged then.
    """
    _write(path, lambda file: file.write(data))


def copy_file(source: Path, path: Path) -> None:
    """Copy the file ``source`` to ``path``, as `write_bytes` writes, without holding it in memory."""

    def fill(file: BinaryIO) -> None:
        with source.open("rb") as original:
            shutil.copyfileobj(original, file, 1 << 20)

    _write(path, fill)


def _write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write what ``fill`` writes to ``path`` atomically and durably. Raises `Unwritten`."""
    beside = path.with_name(f"{_PREFIX}{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(beside, "xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise refused(path, error) from error


class Unwritten(OcheError):
    """A file could not be written: the disk is full, or may only be read."""

    exit_code = 1


def refused(path: Path, error: OSError) -> Unwritten:
    """Return the error for a file at ``path`` that could not be written."""
    reason = error.strerror or error
    return Unwritten(
        f"cannot write {path}: {reason}; what was there before is unchanged; free space or choose another --out"
    )


def sync_directory(path: Path) -> None:
    """Make renames within ``path`` durable, where the system allows opening a directory."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_leftover(path: Path) -> bool:
    """Tell whether ``path`` is a temporary file of a writer that was killed."""
    return path.name.startswith(_PREFIX)


def clean(directory: Path) -> None:
    """Remove the temporary files of killed writers from ``directory``.

    Only the one process that may write to ``directory`` may call this.
    """
    for path in directory.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(value: Any, indent: int | None = None) -> str:
    """Return plain values as strict JSON. NaN and infinities, which JSON lacks, become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """Return ``value`` with None in place of every NaN and infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def parse_json(data: bytes | str) -> Any:
    """Parse the JSON text ``data``. Raises ValueError, also for text that is nested too deeply for Python."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("brackets too deep") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in the JSON file at ``path``, or {} if there is no file. Raises `OcheError` for a damaged file."""
    if not path.exists():
        return {}
    try:
        value = parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise OcheError(
            f"cannot read {path}: {' '.join(str(error).split())}; restore it or start the run anew"
        ) from None
    if not isinstance(value, dict):
        raise OcheError(
            f"{path} is damaged: expected a mapping, found a {type(value).__name__}; restore it or start anew"
        )
    return value
