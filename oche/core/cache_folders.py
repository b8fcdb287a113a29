"""Folders that keep compiled code: where they are, and why code cannot be kept there or run from there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

CACHE_VARIABLE = "OCHE_CACHE"  # environment variable with the folder of all that oche keeps between runs
SPACE = 1 << 22  # bytes that a compiled library may need


def cache_folder() -> Path:
    """Return the folder of all that oche keeps between runs: $OCHE_CACHE, else oche in $XDG_CACHE_HOME or in ~/.cache."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "oche"
    try:
        return Path.home() / ".cache" / "oche"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"oche-{os.getuid()}"


def folder_obstacle(folder: Path, space: int = SPACE) -> str:
    """Return why a library cannot be written to ``folder`` and run from there; "" if nothing speaks against it.

    Creates nothing: a missing folder is judged by the nearest one above it. ``space``: bytes that the library needs.
    """
    place = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    if not place.is_dir():
        return f"{place} is no folder"
    facts = os.statvfs(place)
    if facts.f_flag & os.ST_RDONLY:
        return "its disk is read-only"
    if not os.access(place, os.W_OK | os.X_OK):
        return "the folder must not be written"
    if facts.f_bavail * facts.f_frsize < space:
        return "its disk is full"
    return execution_obstacle(place)


def execution_obstacle(folder: Path) -> str:
    """Return why a library in the existing ``folder`` cannot be run; "" if nothing speaks against it."""
    return (
        "its disk is mounted without the right to execute (noexec)" if os.statvfs(folder).f_flag & os.ST_NOEXEC else ""
    )
