"""One writer per run directory: a lock that the system releases when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from ..errors import OcheError

LOCK = ".lock"
_mine: set[str] = set()  # the system's lock excludes other processes only


class Lock:
    """An exclusive lock on ``directory``. Raises `OcheError` where another holds it, with that process' number if known.

    A record lock (fcntl) and not flock: workers forked by the holder would inherit the latter and keep it after a kill -9.
    A file system that knows no locks goes without.
    """

    def __init__(self, directory: Path) -> None:
        self._key = os.path.realpath(directory)
        self._handle: int | None = None
        if self._key in _mine:  # opening and closing the file once more would release it
            raise OcheError(f"{directory} is in use by this very process; finish with it first")
        try:
            handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OcheError(f"cannot write in {directory}: {error.strerror}; choose another --out") from error
        try:
            _acquire(handle)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                who = _holder(handle)
                os.close(handle)
                raise OcheError(
                    f"{directory} is in use by {who}; wait for it, stop it, or choose another --out"
                ) from None
        self._handle = handle
        _mine.add(self._key)
        with suppress(OSError):  # a full disk loses the number, not the lock
            os.lseek(handle, 0, os.SEEK_SET)
            os.ftruncate(handle, 0)
            os.write(handle, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Gives the directory free; more than once is harmless."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            _mine.discard(self._key)


def _holder(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    pid = os.read(handle, 32).decode("ascii", "replace").strip()
    return f"process {pid}" if pid.isdecimal() else "another process"


def _acquire(handle: int) -> None:
    """Raises OSError where another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows; its locks forbid reading, so one far beyond the process number is taken
        import msvcrt

        os.lseek(handle, 1 << 20, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
