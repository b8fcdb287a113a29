"""The comparison of a fit is of the predictions of both networks."""

from __future__ import annotations

import numpy as np
import pytest

import oche
import small_runs
from oche.core.console import Log
from oche.devices.engine import Engine
from oche.fitting.comparison import right_predictions
from oche.runs.run_data import load_data

pytestmark = pytest.mark.slow  # three trainings of one second
LOG = Log(quiet=True)


def test_the_comparison_is_of_the_predictions_of_both(fitted):
    run, _ = fitted
    config = run.config
    data, engine = load_data(config, LOG), Engine("cpu")
    own = right_predictions(run.path / "train", data, engine)
    compared = run.summary["comparisons"]
    assert compared["images"] == len(own) == 12 and compared["accuracy"] == sum(own) / 12 == run.summary["test_acc"]
    for name, control in compared["controls"].items():
        theirs = right_predictions(run.path / name, data, engine)
        assert control["only_a"] == sum(a and not b for a, b in zip(own, theirs, strict=True))
        assert control["difference"] == pytest.approx((sum(own) - sum(theirs)) / 12)


def test_networks_of_deep_images_are_compared_on_their_own_values(tmp_path, quick):
    """Images of 12 bits were refused here, since the comparison handed 8-bit levels to the network as pixels."""
    x = np.random.default_rng(0).integers(0, 4096, (32, 12, 12), dtype=np.uint16)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.arange(32) % 2, x_test=x[:11], y_test=np.arange(11) % 2)
    run = oche.train("RESNET", tmp_path / "x.npz", recipe=small_runs.recipe(cells=1), out=tmp_path / "run")
    right = right_predictions(run.path, load_data(run.config, LOG), Engine("cpu"))
    assert len(right) == 11 and sum(right) / 11 == pytest.approx(run.summary["test_acc"])
