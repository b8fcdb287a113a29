"""RobustDARTS' rule that ends a search by its curvature, against the rule written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oche.core.eigenvalue_stop import EigenvalueStop
from oche.core.errors import OcheError


def test_a_flat_or_falling_curve_never_stops():
    stop = EigenvalueStop()
    assert stop([]) is None and stop([0.3] * 50) is None
    assert stop([1.0 / (t + 1) for t in range(50)]) is None
    assert stop([1.3 ** min(t, 10) for t in range(11)]) is None  # rises, but before there is anything to go back to


def test_a_step_is_seen_once_the_window_has_seen_enough_of_it():
    """0.3 up to epoch 24, then 0.6. m(t) is then 0.3 + 0.06 · (epochs ≥ 25 in t-2 … t+2); 0.3 / m < 0.75 from m > 0.4, that
    is two of the five: t = 24, known at epoch 26; k = 5 back: 19."""
    curve = [0.3] * 25 + [0.6] * 25
    stop = EigenvalueStop()
    assert [stop(curve[:n]) for n in (25, 26)] == [None, None]
    assert stop(curve[:27]) == 19
    assert stop(curve) == 19  # the first time counts, however long the history


def test_nothing_is_gone_back_to_before_the_start():
    curve = [0.1 * 1.2**t for t in range(40)]  # the rule holds at every epoch
    assert EigenvalueStop()(curve) == 10
    assert EigenvalueStop(start=20)(curve) == 20
    assert EigenvalueStop()(curve[:17]) is None and EigenvalueStop()(curve[:18]) == 10  # t = 15 needs epoch 17


def test_the_ratio_itself_does_not_stop():
    curve = [0.75] * 10 + [1.0] * 10
    assert EigenvalueStop(k=5, window=1, start=0)(curve) is None
    assert EigenvalueStop(k=5, window=1, start=0)([0.7499] * 10 + [1.0] * 10) == 5


def test_no_sharpness_no_stop():
    assert EigenvalueStop(start=0, window=1, k=1)([-3.0, -1.0, -0.1, 0.0]) is None
    assert EigenvalueStop(start=0, window=1, k=1)([-0.1, 0.2]) == 0


@given(
    st.lists(st.floats(0.01, 10), max_size=40), st.integers(1, 6), st.sampled_from([1, 3, 5]), st.integers(0, 12)
)  # fmt: skip
def test_the_rule_written_out(values, k, window, start):
    half, want = window // 2, None
    means = []
    for t in range(len(values) - half):
        span = [values[i] for i in range(t - half, t + half + 1) if i >= 0]
        means.append(sum(span) / len(span))
    for t, mean in enumerate(means):
        if want is None and t - k >= start and means[t - k] / mean < 0.75 - 1e-12:
            want = t - k
    found = EigenvalueStop(k=k, window=window, start=start)(values)
    assert found == want
    if found is not None:  # known as soon as it could be, and not forgotten
        assert [EigenvalueStop(k=k, window=window, start=start)(values[:n]) for n in range(found + k + half + 1)] == [
            None
        ] * (found + k + half + 1)


@pytest.mark.parametrize(
    "build",
    [
        lambda: EigenvalueStop(ratio=1.0), lambda: EigenvalueStop(ratio=0.0), lambda: EigenvalueStop(k=0),
        lambda: EigenvalueStop(window=4), lambda: EigenvalueStop(start=-1),
    ],
)  # fmt: skip
def test_impossible_values_are_refused(build):
    with pytest.raises(OcheError, match="use "):
        build()
