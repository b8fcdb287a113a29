"""The comparison of a fit is of the predictions of both networks."""

from __future__ import annotations

import pytest

from oche.core.console import Log
from oche.devices.engine import Engine
from oche.fitting.comparison import right_predictions
from oche.runs.run_data import load_data

pytestmark = pytest.mark.slow  # three trainings of three seconds
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
