"""What strategies and evaluators exchange."""

import math

import pytest

from made_scores import moves
from oche.blackbox.base import Ask, Report, usable
from oche.core.errors import OcheError


@pytest.mark.parametrize("fidelity", [0, 1.5, -1, math.nan])
def test_a_fidelity_is_a_share(fidelity):
    with pytest.raises(OcheError, match="0 < fidelity <= 1"):
        Ask(moves().build((0,) * 6), fidelity)


def test_a_failed_report_ranks_last():
    report = Report.failed(2.0, 0.5, "no memory")
    assert report.score == -math.inf and report.cost == 2 and report.status == "failed"
    assert report.numbers == {"error": "no memory"} and not usable(report.score) and usable(0.5)
