"""Files that are either as they were or wholly new, whenever the process or the machine stops."""

from __future__ import annotations

import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

from oche.core.errors import OcheError

_PREFIX = ".tmp-"


def write_bytes(path: Path, data: bytes) -> None:
    """Puts ``data`` at ``path``, durably and in one step; makes missing directories.

    The bytes are written and flushed to disk beside ``path`` first, then renamed over it. Raises `OcheError` where the disk
    is full or the place cannot be written; what was at ``path`` is unchanged then.
    """
    beside = path.with_name(f"{_PREFIX}{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(beside, "xb") as file:
                file.write(data)
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
    """The system did not take a file: the disk is full, or may only be read."""

    exit_code = 1


def refused(path: Path, error: OSError) -> Unwritten:
    """The message for a file that could not be written."""
    reason = error.strerror or error
    return Unwritten(
        f"cannot write {path}: {reason}; what was there before is unchanged; free space or choose another --out"
    )


def sync_directory(path: Path) -> None:
    """Makes renames within ``path`` durable, where the system lets a directory be opened."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_leftover(path: Path) -> bool:
    """Whether ``path`` is what a writer that was killed left behind."""
    return path.name.startswith(_PREFIX)


def clean(directory: Path) -> None:
    """Removes what killed writers left in ``directory``. Only for the one process that may write there."""
    for path in directory.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(value: Any, indent: int | None = None) -> str:
    """Plain values as strict JSON: NaN and infinities, which it does not know, become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def parse_json(data: bytes | str) -> Any:
    """What the JSON text ``data`` says. Raises ValueError, also where it is nested more deeply than Python can follow."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("brackets too deep") from None


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in the file at ``path``; {} where it is absent. Raises `OcheError` where it is damaged."""
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
