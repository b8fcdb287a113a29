"""Claiming a directory for a new run: what may be there, and how an old run is moved aside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from oche.core import atomic_files as atomic
from oche.core.errors import OcheError
from oche.core.lock import LOCK_FILE, Lock

_UNBORN = {LOCK_FILE, "config.yaml"}  # files of a run that was killed during its creation


def is_run(path: Path) -> bool:
    """Whether ``path`` is a run directory."""
    return (path / "status.json").is_file()


def check_run(path: Path) -> None:
    """Raise `OcheError` unless ``path`` is a run directory."""
    if not is_run(path):
        raise OcheError(
            f"{path} is not a run directory: it has no status.json; give one that oche search or train made"
        )


def check_free(path: Path) -> None:
    """Raise `OcheError` unless ``path`` is absent, empty, or a run that was killed during its creation."""
    if is_run(path):
        raise OcheError(f"{path} has just been made by another process; choose another --out")
    if path.is_dir():
        others = sorted(p.name for p in path.iterdir() if p.name not in _UNBORN and not atomic.is_leftover(p))
        if others:
            raise OcheError(f"{path} is not a run and not empty (it has {others[0]}); choose another --out")
    elif path.exists():
        raise OcheError(f"{path} is a file, and a run needs a directory; choose another --out")


def make_way(path: Path, overwrite: bool, say: Callable[[str], object]) -> None:
    """Move the run at ``path``, with the runs below it, aside. ``say`` is told the new path.

    Raises `OcheError` unless ``overwrite`` is set, or if another process works in any of these runs.
    """
    locks: list[Lock] = []
    try:
        for file in sorted(path.rglob(LOCK_FILE)):
            locks.append(Lock(file.parent))
        if not overwrite:
            raise OcheError(_taken(path))
        aside = _aside(path)
        path.rename(aside)
    except OSError as error:
        raise OcheError(f"cannot move {path} aside: {error.strerror}; choose another --out") from error
    finally:
        for lock in locks:
            lock.release()
    say(f"{path} existed and is now {aside}")


def _taken(path: Path) -> str:
    """Return the message for a run that may not be moved."""
    status = atomic.read_json(path / "status.json")
    kind = status.get("kind", "run")
    if status.get("state") == "complete":
        return f"{path} holds a complete {kind}; write --overwrite to move it aside and start anew, or choose another --out"
    return f"{path} holds an unfinished {kind}; go on with: oche resume {path}, or write --overwrite to start anew"


def _aside(path: Path) -> Path:
    """Return a free path with the time in its name."""
    stamp = f"{path.name}.old-{datetime.now():%Y%m%d-%H%M%S}"
    n, aside = 1, path.with_name(stamp)
    while aside.exists():
        n, aside = n + 1, path.with_name(f"{stamp}-{n + 1}")
    return aside
