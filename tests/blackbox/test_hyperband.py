"""Hyperband's brackets against the published table, and promotions of ASHA by hand."""

import pytest

from made_scores import Made, moves, score
from oche.blackbox.base import Report
from oche.blackbox.hyperband import Asha, Hyperband
from oche.core.errors import OcheError
from oche.strategies.loop import drive

SMALL = moves()


def test_the_brackets_of_the_published_table():
    found = Hyperband(reduction=3, rungs=5).brackets()
    assert [b.count for b in found] == [81, 34, 15, 8, 5] and [b.rungs for b in found] == [5, 4, 3, 2, 1]


def test_every_bracket_is_halved_and_no_cell_starts_twice():
    found = drive(Hyperband(), SMALL, Made(), queries=500)
    assert found.ended == "strategy"
    fidelities = [t.ask.fidelity for t in found.trials]
    assert fidelities == [1 / 9] * 9 + [1 / 3] * 3 + [1.0] + [1 / 3] * 5 + [1.0] + [1.0] * 3
    starts = [t.key for t in (*found.trials[:9], *found.trials[13:18], *found.trials[19:])]
    assert len({*starts}) == 17
    rung = sorted(found.trials[:9], key=lambda t: -t.report.score)[:3]
    assert {t.key for t in rung} == {t.key for t in found.trials[9:12]}


def test_a_small_space_ends_early():
    found = drive(Hyperband(rungs=4), moves(("none", "skip_connect")), Made(), queries=500)
    assert found.ended in ("strategy", "exhausted") and len({t.key for t in found.trials}) <= 64


def test_asha_promotes_the_best_of_those_reported():
    ladder = Asha(reduction=2, rungs=3).start(SMALL, 0)
    scores, asked = iter([0.1, 0.9, 0.5, 0.2, 0.8, 0.3]), []
    for _ in range(6):
        asked.append(ladder.ask())
        ladder.tell(asked[-1], Report(next(scores), 1.0, asked[-1].fidelity))
    a, b, c, d, e, f = asked
    assert (a.fidelity, b.fidelity) == (0.25, 0.25)
    assert c.genotype is b.genotype and c.fidelity == 0.5  # the best one of two
    assert (d.fidelity, e.fidelity) == (0.25, 0.25)  # of three reported still one may go on
    assert f.genotype is e.genotype and f.fidelity == 0.5
    last = ladder.ask()  # two are reported in the second rung: the better one goes on
    assert last.genotype is b.genotype and last.fidelity == 1.0


def test_asha_never_waits_and_failures_are_not_promoted():
    ladder = Asha(reduction=2, rungs=2).start(SMALL, 0)
    first = [ladder.ask() for _ in range(4)]
    assert len({SMALL.key(ask.genotype) for ask in first}) == 4
    for ask in first[:2]:
        ladder.tell(ask, Report.failed(1.0, 0.5, "no") if ask is first[0] else Report(score(ask.genotype), 1.0, 0.5))
    assert ladder.ask().genotype is first[1].genotype


@pytest.mark.parametrize("make", [Hyperband, Asha])
def test_impossible_settings_are_refused(make):
    with pytest.raises(OcheError, match="reduction=1"):
        make(reduction=1)
