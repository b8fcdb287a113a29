"""The reading of collapse from records made by hand."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oche.bilevel import collapse as monitor
from oche.bilevel.collapse import detect_collapse, relative_entropy
from oche.core.eigenvalue_stop import EigenvalueStop

SURE, EVEN = [[0.7, 0.2, 0.1]] * 4, [[0.334, 0.333, 0.333]] * 4


def records(*shares, weights=SURE, start=1, **extra):
    return [
        {"epoch": e, "skip_share": {"normal": s, "reduce": 1.0}, "arch": {"normal": {"weights": weights}}, **extra}
        for e, s in enumerate(shares, start)
    ]


@pytest.mark.parametrize(
    ("share", "level"),
    [(0.0, "ok"), (0.25, "ok"), (0.26, "watch"), (0.49, "watch"), (0.5, "collapse"), (1, "collapse")],
)
def test_levels_by_share_of_skips_in_the_last_record(share, level):
    reading = detect_collapse(records(1.0, share), 8)
    assert reading and reading.level == level and reading.epoch == 2
    assert f"At epoch 2 the normal cell would keep {round(8 * share)} of 8 edges" in reading.reason
    assert (reading.advice == "") == (level == "ok")
    assert "\n" not in reading.reason + reading.advice


@pytest.mark.parametrize(("share", "level"), [(0.0, "ok"), (0.375, "ok"), (0.5, "watch"), (1.0, "watch")])
def test_what_chance_chose_is_no_collapse_yet(share, level):
    reading = detect_collapse(records(share, weights=EVEN))
    assert reading and reading.level == level
    assert ("practically uniform" in reading.reason) == (share > 0.25)
    assert "hardly moved" in reading.advice or level == "ok"


def test_without_a_normal_cell_the_worst_counts():
    reading = detect_collapse([{"epoch": 7, "skip_share": {"a": 0.1, "b": 0.75}}])
    assert reading and reading.level == "collapse"
    assert reading.reason.startswith("At epoch 7 the b cell would keep 75 % of the edges as skip connections")


def test_nothing_recorded_nothing_read():
    assert detect_collapse([]) is None and detect_collapse([{"epoch": 1}, {"epoch": 2, "skip_share": {}}]) is None


def test_the_last_epoch_without_a_sign_is_named():
    history = records(0.0, 0.125, 0.25, 0.375, 0.25, 0.5, 0.75, start=0)
    reading = detect_collapse(history)
    assert reading and reading.last_good_epoch == 4 and "Go back to epoch 4" in reading.advice
    ok = detect_collapse(history[:5])
    assert ok and ok.last_good_epoch is None and ok.advice == ""
    never = detect_collapse(records(0.0, 0.5, 0.75, start=0))  # epoch 0 is what the search started from
    assert never and never.last_good_epoch is None and never.advice.startswith("Try another method")


def curve(shares, eigenvalues):
    history = records(*shares)
    for record, value in zip(history, eigenvalues, strict=True):
        record["eigenvalue"] = value
    return history


@pytest.mark.parametrize(("share", "level"), [(0.0, "watch"), (0.375, "collapse"), (0.5, "collapse")])
def test_a_growing_eigenvalue_makes_it_one_level_worse(share, level):
    flat = detect_collapse(curve([0.125] * 29 + [share], [0.3] * 30))
    assert flat and "eigenvalue" not in flat.reason
    steep = detect_collapse(curve([0.125] * 29 + [share], [0.3] * 20 + [0.9] * 10))
    assert steep and steep.level == level and "eigenvalue" in steep.reason
    # m rises at index 18 (epoch 19) beyond 0.3 / 0.75: five epochs before it is index 13, epoch 14
    assert (
        steep.last_good_epoch == steep.eigenvalue_epoch == 14
        and "Since epoch 14" in steep.reason
        and flat.eigenvalue_epoch is None
    )


def test_eigenvalues_of_some_epochs_only():
    history = records(*[0.0] * 40)
    for record in history[1::2]:  # epochs 2, 4, …, 40
        record["eigenvalue"] = 0.3 if record["epoch"] <= 30 else 0.9
    reading = detect_collapse(history, stop=EigenvalueStop(start=5))
    # the 15th is the last of 0.3 (epoch 30); m rises at index 13; five before it is index 8, epoch 18
    assert reading and reading.level == "watch" and reading.last_good_epoch == 18


def test_relative_entropy_by_hand():
    assert relative_entropy([[0.25] * 4]) == pytest.approx(1.0)
    assert relative_entropy([[2.0, 2.0, 0.0, 0.0]]) == pytest.approx(1.0)  # the dead do not count, nor does the scale
    assert relative_entropy([[1.0, 0.0], [0.0, 0.0]]) is None
    want = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    assert relative_entropy([[0.9, 0.1], [1.0, 0.0]]) == pytest.approx(want)
    assert relative_entropy([[0.9, 0.1], [0.5, 0.5]]) == pytest.approx((want + 1) / 2)


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=8), min_size=1, max_size=6))
def test_relative_entropy_is_a_share(weights):
    value = relative_entropy(weights)
    assert value is None or -1e-12 <= value <= 1 + 1e-12


def test_logits_as_they_start_are_undecided_and_trained_ones_are_not():
    import torch

    g = torch.Generator().manual_seed(0)
    logits = torch.randn(14, 8, generator=g)
    for scale, undecided in ((1e-3, True), (0.01, True), (0.2, False), (1.0, False)):
        record = {"arch": {"normal": {"weights": (scale * logits).softmax(1).tolist()}}}
        assert monitor.undecided(record, "normal") == undecided


@pytest.mark.parametrize("arch", [None, {}, {"normal": None}, {"normal": {}}, {"normal": {"weights": [1, None]}}, 3])
def test_a_damaged_record_tells_nothing(arch):
    assert not monitor.undecided({"arch": arch}, "normal") and not monitor.undecided({}, "normal")
    reading = detect_collapse([{"epoch": 3, "skip_share": {"normal": 0.5}, "arch": arch}])
    assert reading and reading.level == "collapse"


def test_reports_read_it_without_torch():
    records = "[{'epoch': 1, 'skip_share': {'a': 1.0}}]"
    code = f"import sys, oche.bilevel.collapse as m; m.detect_collapse({records}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
