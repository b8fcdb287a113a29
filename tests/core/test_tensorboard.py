"""Events that TensorBoard reads, also those of a run that was killed."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import oche
import small_runs
from oche.core.tensorboard import tensorboard_writer

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")


pytestmark = pytest.mark.usefixtures("quick")


def read(directory):
    events = accumulator.EventAccumulator(str(directory))
    return events.Reload()


def scalars(directory):
    events = read(directory)
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_events(tmp_path):
    board = tensorboard_writer(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for step in (1, 2, 30):
        board.add(
            {
                "step": step,
                "epoch": 7,
                "val_acc": step / 32,
                "train_loss": 1,
                "genotype": "x",
                "entropy": {"normal": 0.5},
            }
        )
    file, *others = tmp_path.iterdir()
    assert file.name.startswith("events.out.tfevents.") and not others
    assert scalars(tmp_path) == {
        "val_acc": [(1, 1 / 32), (2, 2 / 32), (30, 30 / 32)],
        "train_loss": [(1, 1), (2, 1), (30, 1)],
        "entropy/normal": [(1, 0.5), (2, 0.5), (30, 0.5)],
    }


def test_mixtures(tmp_path):
    """Three edges, two candidates: means by candidate, the spread, and a picture with candidates down and edges across."""
    weights = [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]
    (tmp_path / "space.json").write_text(json.dumps({"groups": {"normal": {"candidates": ["conv", "skip"]}}}))
    board = tensorboard_writer(tmp_path)
    board.add({"step": 4, "arch": {"normal": {"weights": weights, "edges": None}}})
    events = read(tmp_path)
    tags = [tag for kind in ("scalars", "histograms", "images") for tag in events.Tags()[kind]]
    assert len(tags) == len({*tags}) == 4  # of a tag that two kinds share TensorBoard's server shows nothing
    assert scalars(tmp_path)["mean_weight_normal/conv"] == [(4, pytest.approx(1.75 / 3))]
    assert scalars(tmp_path)["mean_weight_normal/skip"] == [(4, pytest.approx(1.25 / 3))]
    (spread,) = events.Histograms("weights/normal")
    value = spread.histogram_value
    assert (value.num, value.min, value.max, value.sum) == (6, 0.0, 1.0, 3.0)
    assert sum(value.bucket) == 6 and value.bucket_limit[-1] == 1.0
    (picture,) = events.Images("mixture/normal")
    grey = np.array(Image.open(io.BytesIO(picture.encoded_image_string)))
    assert grey[8::16, 8::16].tolist() == [[64, 128, 255], [191, 128, 0]]
    assert (picture.height, picture.width) == grey.shape == (32, 48)


def test_a_search_opens_in_tensorboard(tmp_path):
    run = small_runs.search(tmp_path / "x", method=oche.methods.darts(batch=16, epochs=2), device="cpu")
    found = scalars(run.path)
    steps = [r["step"] for r in run.history]
    assert [step for step, _ in found["mean_weight_normal/skip_connect"]] == steps
    for name in ("train_loss", "val_acc"):
        assert found[name] == [(r["step"], pytest.approx(r[name])) for r in run.history if name in r]
    assert {"entropy/normal", "entropy/reduce", "timings/step_ms", "skip_share/normal"} <= found.keys()
    for name, arch in run.history[-1]["arch"].items():
        mean = np.mean(arch["weights"], axis=0)
        candidates = json.loads((run.path / "space.json").read_text())["groups"][name]["candidates"]
        assert [found[f"mean_weight_{name}/{c}"][-1][1] for c in candidates] == pytest.approx(list(mean), rel=1e-6)
        assert len(read(run.path).Images(f"mixture/{name}")) == len(steps)


KILLED = """
import os, signal, sys
from oche.core.tensorboard import tensorboard_writer
board = tensorboard_writer(sys.argv[1])
for step in range(5):
    board.add({"step": step, "loss": step / 2})
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
        tensorboard_writer(tmp_path).add({"step": step, "loss": 0.5})
    assert len(list(tmp_path.iterdir())) == 2


def test_without_tensorboard_there_is_no_writer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    assert tensorboard_writer(tmp_path) is None
