"""A lock that allows one writer for each run directory. The system releases it when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from oche.core.errors import OcheError

LOCK_FILE = ".lock"
_mine: set[str] = set()  # locked by this process: the lock of the system excludes other processes only


class InUse(OcheError):
    """Another process holds the lock."""


class Lock:
    """An exclusive lock on ``directory``.

    It is a record lock (fcntl), not flock: workers that the holder forks would inherit a flock and keep it after a kill -9. On a
    file system without locks nothing is locked.

    Raises `InUse` if another process holds the lock, with its process number if known, and `OcheError` if ``directory`` cannot be
    written.
    """

    def __init__(self, directory: Path) -> None:
        self._key = os.path.realpath(directory)
        self._handle: int | None = None
        if self._key in _mine:  # opening and closing the file once more would release it
            raise InUse(f"{directory} is in use by this process itself; finish with it first")
        try:
            handle = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OcheError(f"cannot write in {directory}: {error.strerror}; choose another --out") from error
        try:
            _acquire(handle)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                who = _holder(handle)
                os.close(handle)
                raise InUse(f"{directory} is in use by {who}; wait for it, stop it, or choose another --out") from None
        self._handle = handle
        _mine.add(self._key)
        with suppress(OSError):  # a full disk loses the number, not the lock
            os.lseek(handle, 0, os.SEEK_SET)
            os.ftruncate(handle, 0)
            os.write(handle, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Release the lock. Calling this more than once is harmless."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            _mine.discard(self._key)


def wait_for_lock(directory: Path, every: float = 0.2) -> Lock:
    """Return the lock on ``directory`` as soon as its holder releases it.

    Raises `OcheError` if the directory cannot be written.
    """
    while True:
        try:
            return Lock(directory)
        except InUse:
            time.sleep(every)


def is_locked(directory: Path) -> bool:
    """Tell whether a process holds the lock on ``directory``.

    This takes the lock as a reader for a moment, so writers should use `wait_for_lock`.
    """
    if os.path.realpath(directory) in _mine:
        return True
    try:
        handle = os.open(directory / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        _acquire(handle, shared=True)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    finally:
        os.close(handle)
    return False


def _holder(handle: int) -> str:
    """Return the text "process 123" for the holder of the lock, or "another process"."""
    os.lseek(handle, 0, os.SEEK_SET)
    pid = os.read(handle, 32).decode("ascii", "replace").strip()
    return f"process {pid}" if pid.isdecimal() else "another process"


def _acquire(handle: int, shared: bool = False) -> None:
    """Take the lock. With ``shared`` several readers may hold it at once. Raises OSError if another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows: a lock forbids reading there, so lock a byte far beyond the process number
        import msvcrt

        os.lseek(handle, 1 << 20, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        fcntl.lockf(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
