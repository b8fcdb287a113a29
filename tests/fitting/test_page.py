"""The sentences of a fit's page; the whole page is tested in test_run.py."""

from __future__ import annotations

import pytest

from oche.fitting.page import holds, verdict_line

CONTROL = {"interval": (0.01, 0.06), "difference": 0.033, "n": 153, "p": 0.012, "verdict": "better"}


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        ("better", "Your network is better than the plain residual network: +3.3 points (95 % interval +1.0 to +6.0)"),
        ("worse", "Take that network instead."),
        ("undecided", "Your network is not shown to be better than the plain residual network"),
    ],
)
def test_the_verdict_is_plain(verdict, says):
    line = verdict_line("control-residual", CONTROL | {"verdict": verdict})
    assert says in line and "exact McNemar test on 153 images: p = 0.012" in line


def test_a_prediction_holds_within_a_quarter():
    assert holds(100, 125) and holds(100, 75) and not holds(100, 126) and not holds(100, 74)
