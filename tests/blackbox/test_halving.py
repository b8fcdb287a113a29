"""Successive halving: sizes and fidelities of the rungs, and who goes on."""

from itertools import pairwise

import pytest

from made_scores import moves, score
from oche.blackbox.base import Done, Report
from oche.blackbox.halving import SuccessiveHalving
from oche.core.errors import OcheError

SMALL = moves()


def test_rungs():
    proposals, asked = SuccessiveHalving().start(SMALL, 0), []
    with pytest.raises(Done):
        while True:
            asked.append(proposals.ask())
            proposals.tell(asked[-1], Report(score(asked[-1].genotype), 1.0, asked[-1].fidelity))
    assert [round(9 * ask.fidelity) for ask in asked] == [1] * 27 + [3] * 9 + [9] * 3
    rungs = [[a.genotype for a in asked[i:j]] for i, j in ((0, 27), (27, 36), (36, 39))]
    for lower, upper in pairwise(rungs):
        assert upper == sorted(lower, key=score, reverse=True)[: len(upper)]


def test_a_rung_waits_for_its_reports():
    proposals = SuccessiveHalving(count=3, rungs=2).start(SMALL, 0)
    asks = [proposals.ask() for _ in range(3)]
    assert proposals.ask() is None
    for ask in reversed(asks):
        proposals.tell(ask, Report(0.5, 1.0, ask.fidelity))
    assert proposals.ask().genotype == asks[0].genotype  # of equal ones the first asked


def test_impossible_settings_are_refused():
    with pytest.raises(OcheError, match="reduction=1"):
        SuccessiveHalving(reduction=1)
