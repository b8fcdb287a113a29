"""Lengths of time, budgets and the clock that counts them."""

import pytest

from oche.core.budget import Budget, Clock, FirstStep, parse_duration
from oche.core.errors import OcheError


@pytest.mark.parametrize(
    ("text", "length"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("1h0m1s", 3601), (" 10M ", 600), ("0.5s", 0.5)],
)
def test_lengths_of_time(text, length):
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "10", "m", "ten m", "10min", "-5m", "0s", "1h 30m", "1d", "1e3s", "10m!", "."])
def test_other_lengths_are_refused(text):
    with pytest.raises(OcheError, match="write 90s, 10m or 1h30m"):
        parse_duration(text)


def test_budgets():
    assert Budget.of(3, None, None) == Budget(3)
    assert Budget.of(3, 10, None) == Budget(3, 10)
    assert Budget.of(3, None, "2m") == Budget(3, None, 120.0)
    for wrong in ((0, None, None), (1, 0, None), (1, 5, "2m"), (1, None, "soon")):
        with pytest.raises(OcheError):
            Budget.of(*wrong)


def test_progress_of_each_budget_runs_from_0_to_1():
    by_epochs = [Clock(Budget(2), epoch=e, position=p).progress(4) for e in range(2) for p in range(4)]
    assert by_epochs == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8]
    assert Clock(Budget(2), epoch=2).progress(4) == 1
    assert [Clock(Budget(9, 5), step=s, epoch=8).progress(4) for s in (0, 1, 5, 6)] == [0, 0.2, 1, 1]
    assert [Clock(Budget(9, 5, 10.0), step=4, elapsed=t).progress(4) for t in (0, 2.5, 10, 11)] == [0, 0.25, 1, 1]


def test_work_between_epochs_counts_but_never_ends_a_budget_of_time():
    clock = Clock(Budget(1, None, 10.0), elapsed=4.0)
    clock.spend(3.0)
    assert clock.elapsed == 7.0
    assert clock.seconds == 7.0
    clock.spend(3.5)
    assert clock.progress(1) < 1 and clock.elapsed == pytest.approx(10)
    assert clock.seconds == 10.5  # what had no room is shown all the same
    over = Clock(Budget(1, None, 10.0), elapsed=10.0)
    over.spend(3.0)
    assert over.elapsed == 13.0
    free = Clock(Budget(1), elapsed=4.0)
    free.spend(100.0)
    assert free.elapsed == 104.0


def test_the_first_step_counts_like_the_second():
    first = FirstStep(Budget(1, None, 10.0))
    assert first.note(5.0) == pytest.approx(-4.99) and first.uncounted == pytest.approx(
        4.99
    )  # a thousandth of the budget
    assert first.note(2.0) == pytest.approx(1.99) and first.uncounted == pytest.approx(3.0)
    assert first.note(9.0) == 0.0 and first.uncounted == pytest.approx(3.0)
    assert FirstStep(Budget(1, 5)).note(5.0) == 0.0  # other lengths do not care
