"""Events that TensorBoard reads, also those of a run that was killed."""

import os
import signal
import subprocess
import sys

import pytest

from oche.run.tensorboard import tensorboard_writer

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")


def scalars(directory):
    events = accumulator.EventAccumulator(str(directory))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_events(tmp_path):
    board = tensorboard_writer(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for step in (1, 2, 30):
        board.add_scalar("val_acc", step / 32, step)
        board.add_scalar("train_loss", 1, step)
    file, *others = tmp_path.iterdir()
    assert file.name.startswith("events.out.tfevents.") and not others
    assert scalars(tmp_path) == {
        "val_acc": [(1, 1 / 32), (2, 2 / 32), (30, 30 / 32)],
        "train_loss": [(1, 1), (2, 1), (30, 1)],
    }


KILLED = """
import os, signal, sys
from oche.run.tensorboard import tensorboard_writer
board = tensorboard_writer(sys.argv[1])
for step in range(5):
    board.add_scalar("loss", step / 2, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_lost_by_kill_9(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert scalars(tmp_path) == {"loss": [(i, i / 2) for i in range(5)]}
    file = next(tmp_path.iterdir())
    os.truncate(file, file.stat().st_size - 3)  # killed within a write: the rest is still read
    assert scalars(tmp_path) == {"loss": [(i, i / 2) for i in range(4)]}


def test_two_writers_of_a_resumed_run_are_two_files(tmp_path):
    for step in (1, 2):
        tensorboard_writer(tmp_path).add_scalar("loss", 0.5, step)
    assert len(list(tmp_path.iterdir())) == 2


def test_without_tensorboard_there_is_no_writer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    assert tensorboard_writer(tmp_path) is None
