"""The loop: budgets, repeats, failures, resuming bit for bit, and parallel workers."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from made_scores import Made, moves, score
from oche.blackbox.bananas import Bananas
from oche.blackbox.base import Evaluator, Report
from oche.blackbox.evolution import AgeingEvolution
from oche.blackbox.local_search import LocalSearch
from oche.blackbox.random_search import RandomSearch
from oche.core.errors import OcheError
from oche.strategies import STRATEGIES
from oche.strategies.journal import Journal
from oche.strategies.loop import answer, drive

SMALL = moves()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_goes_on_bit_for_bit(name, tmp_path):
    strategy, file = STRATEGIES[name].make(), tmp_path / "journal.jsonl"
    whole = drive(strategy, SMALL, Made(), seed=3, queries=40, journal=Journal(file))
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in (0, 1, 2, 25, 50, len(lines)):
        other = tmp_path / f"{kept}.jsonl"
        other.write_bytes(b"".join(lines[:kept]) + (lines[kept][:-4] if kept < len(lines) else b""))  # a torn line
        found = drive(strategy, SMALL, evaluator := Made(), seed=3, queries=40, journal=Journal(other))
        assert other.read_bytes() == file.read_bytes()
        assert [t.key for t in found.trials] == [t.key for t in whole.trials] and found.best == whole.best
        assert len(evaluator.asked) <= 40 - kept // 2


def test_a_longer_search_goes_on(tmp_path):
    file = tmp_path / "j"
    drive(LocalSearch(), SMALL, Made(), seed=0, queries=20, journal=Journal(file))
    drive(LocalSearch(), SMALL, Made(), seed=0, queries=50, journal=Journal(file))
    once = drive(LocalSearch(), SMALL, Made(), seed=0, queries=50, journal=Journal(tmp_path / "once"))
    assert file.read_bytes() == (tmp_path / "once").read_bytes() and once.spent == 50


def test_a_journal_of_another_seed_is_refused(tmp_path):
    drive(RandomSearch(), SMALL, Made(), seed=0, queries=3, journal=Journal(tmp_path / "j"))
    with pytest.raises(OcheError, match="does not propose trial 0"):
        drive(RandomSearch(), SMALL, Made(), seed=1, queries=3, journal=Journal(tmp_path / "j"))


def test_a_repeated_cell_counts_and_costs_nothing():
    one = moves(("none", "skip_connect"))
    evaluator = Made()
    found = drive(AgeingEvolution(2, 2), one, evaluator, queries=60)
    keys = [t.key for t in found.trials]
    assert len(keys) == 60 > len(set(keys)) == len(evaluator.asked) == found.spent
    assert {t.report.score for t in found.trials if t.key == keys[0]} == {found.trials[0].report.score}


def test_an_exhausted_space_ends_the_search():
    tiny = moves(("none",))
    found = drive(RandomSearch(), tiny, Made(), queries=100)
    assert len(found.trials) == 1 and found.ended == "exhausted"
    two = moves(("none", "skip_connect"))
    assert drive(LocalSearch(), two, Made(), queries=1000).ended == "exhausted"
    assert len(drive(Bananas(batch=40), two, Made(), queries=1000).trials) == 64


def test_a_budget_of_cost():
    class Dear(Made):
        def __call__(self, genotype, fidelity, seed):
            return Report(score(genotype), 2.5)

    found = drive(RandomSearch(), SMALL, Dear(), budget=6.0)
    assert found.spent == 7.5 and found.ended == "budget"


@pytest.mark.parametrize("length", [{}, {"queries": 0}, {"queries": -1}, {"budget": 0.0}])
def test_a_search_without_length_is_refused(length):
    with pytest.raises(OcheError, match=r"needs a length|evaluate nothing"):
        drive(RandomSearch(), SMALL, Made(), **length)


class Sometimes(Evaluator):
    """Fails for some cells, and gives NaN for others."""

    unit = "queries"

    def __call__(self, genotype, fidelity, seed):
        number = SMALL.values(genotype)[0]
        if number == 0:
            raise OcheError("no memory")
        return Report(math.nan if number == 1 else score(genotype), 1.0)


ENDS = {"hyperband": 22}  # evaluations after which a strategy ends by itself: here brackets of 9 + 3 + 1, 5 + 1 and 3


@pytest.mark.parametrize("name", [n for n in STRATEGIES if n != "halving"])
def test_failures_rank_last_and_are_counted(name):
    found = drive(STRATEGIES[name].make(), SMALL, Sometimes(), queries=40)
    bad = [t for t in found.trials if SMALL.values(t.ask.genotype)[0] < 2]
    assert len(found.trials) == (ENDS.get(name) or 40) and bad and found.failures <= len(bad)
    assert all(t.report.score == -math.inf and t.report.status == "failed" for t in bad)
    assert found.best is None or SMALL.values(found.best.ask.genotype)[0] == 2


def test_reasons_of_failures():
    assert answer(Sometimes(), SMALL.build((0,) * 6), 1.0, 0).numbers == {"error": "no memory"}
    assert answer(Sometimes(), SMALL.build((1,) * 6), 1.0, 0).numbers == {"error": "the score is nan"}

    def broken(cell):
        raise RuntimeError("shapes\ndiffer")

    assert answer(Made(broken), SMALL.build((1,) * 6), 1.0, 0).numbers == {"error": "RuntimeError: shapes differ"}


def test_only_full_evaluations_can_be_best():
    found = drive(STRATEGIES["halving"].make(), SMALL, Made(), queries=39)
    assert found.best.report.fidelity == 1 and found.spent == 39
    assert drive(STRATEGIES["halving"].make(), SMALL, Made(), queries=10).best is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_workers_in_parallel(name, tmp_path):
    evaluator, together, most, lock = Made(), [0], [0], threading.Lock()

    def work(*question):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        report = answer(evaluator, *question)
        with lock:
            together[0] -= 1
        return report

    file = tmp_path / "j"
    with ThreadPoolExecutor(3) as pool:
        found = drive(
            STRATEGIES[name].make(), SMALL, evaluator, queries=39, jobs=3, journal=Journal(file),
            submit=lambda *question: pool.submit(work, *question),
        )  # fmt: skip
    assert len(found.trials) == (asked := ENDS.get(name) or 39) and most[0] <= 3
    assert sorted(t.number for t in found.trials) == [*range(asked)]
    # whatever the order of the reports, the journal replays it
    lines = file.read_bytes().splitlines(keepends=True)
    again = tmp_path / "again"
    again.write_bytes(b"".join(lines[:-9]))
    assert len(drive(STRATEGIES[name].make(), SMALL, Made(), queries=39, journal=Journal(again)).trials) == asked


def test_the_user_can_stop(tmp_path):
    asked = []
    found = drive(
        RandomSearch(),
        SMALL,
        Made(),
        queries=10,
        stopping=lambda: len(asked) >= 4,
        progress=lambda f: asked.append(f.spent),
    )
    assert len(found.trials) == 4 and found.ended == "interrupted"
