"""A lock of a directory, held by this process, by another, and by one that was killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context

import pytest

from oche.core.errors import OcheError
from oche.core.lock import InUse, Lock, is_locked, wait_for_lock
from oche.runs.directory import RunDir
from run_directories import make

fork = get_context("fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "x"


def test_workers_of_a_killed_holder_do_not_keep_it(path):
    make(path)
    hear, tell = os.pipe()
    if (holder := os.fork()) == 0:  # as a run with data workers: it forks, and the worker outlives it
        with RunDir.open(path):
            if (worker := os.fork()) == 0:
                time.sleep(60)
                os._exit(0)
            os.write(tell, b"%d\n" % worker)
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(tell)
    worker = int(os.read(hear, 20))
    try:
        assert os.WTERMSIG(os.waitpid(holder, 0)[1]) == signal.SIGKILL
        os.kill(worker, 0)  # it lives
        RunDir.open(path).close()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(hear)


TWICE = """
import sys
from oche.core.errors import OcheError
from oche.runs.directory import RunDir
sys.stdin.readline()
try:
    RunDir.open(sys.argv[1])
except OcheError as error:
    print(error, flush=True)
sys.stdin.read()
RunDir.open(sys.argv[1])
"""


@pytest.mark.slow
def test_lock_is_seen_by_a_process_that_was_started_anew(path):
    make(path)
    with subprocess.Popen(
        [sys.executable, "-c", TWICE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        with RunDir.open(path):
            other.stdin.write("try\n")
            other.stdin.flush()
            assert f"in use by process {os.getpid()}" in other.stdout.readline()
        other.stdin.close()
        assert other.wait() == 0


def test_release_twice_is_harmless(tmp_path):
    lock = Lock(tmp_path)
    lock.release()
    again = Lock(tmp_path)
    lock.release()
    with pytest.raises(OcheError):
        Lock(tmp_path)
    again.release()


HOLDS = """
import sys
from pathlib import Path
from oche.core.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_of_another_process_is_seen_and_waited_for(tmp_path):
    assert not is_locked(tmp_path)  # nobody ever locked it
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        assert is_locked(tmp_path) and is_locked(tmp_path)
        with pytest.raises(InUse, match=f"in use by process {other.pid}"):
            Lock(tmp_path)
        threading.Timer(0.3, other.kill).start()
        began = time.monotonic()
        lock = wait_for_lock(tmp_path, every=0.01)
        assert time.monotonic() - began > 0.2
    assert is_locked(tmp_path)  # by this process, whose lock the question leaves as it is
    with pytest.raises(InUse):
        Lock(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)
