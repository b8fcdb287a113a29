"""oche search --strategy: what it prints, and one line for mistakes."""

import pytest

from made_scores import REAL, real
from oche.strategies import AgeingEvolution, ByStrategy


@real
def test_a_search_on_the_table(oche_, here):
    code, out, err = oche_("search", "--strategy", "local", "--table", REAL, "--queries", "60", "--out", "x")
    assert code == 0 and not err
    assert "test accuracy" in out and "60 queries of 60 architectures" in out and "720 epochs" in out
    assert "oche train x/genotype.txt" in out
    journal = (here / "x/journal.jsonl").read_bytes()
    code, again, _ = oche_("resume", "x")
    assert code == 0 and again.split("found:")[1] == out.split("found:")[1]
    assert (here / "x/journal.jsonl").read_bytes() == journal
    code, _, _ = oche_("show", "x/genotype.txt")
    assert code == 0


@real
def test_settings_of_the_strategy_are_options(oche_, here):
    words = ("search", "--strategy", "evolution", "--table", REAL, "--queries", "12", "--out", "x", "--quiet")
    code, out, _ = oche_(*words, "--search.population", "4", "--search.drop", "worst")
    assert code == 0 and not out
    assert '"population": 4, "sample": 3, "drop": "worst"' in (here / "x/journal.jsonl").read_text().splitlines()[0]


def test_a_training_free_score(oche_, here):
    code, out, err = oche_(
        "search --strategy random --evaluate score:synflow --space nb201 --space.channels 4 --space.cells 1 --queries 3 "
        "--limit 40 --batch 4 --device cpu"
    )
    assert code == 0 and not err and "score: " in out and "weights" in out and "of the strategy" in out
    assert (here / "runs/digits-random/summary.json").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        ("--strategy evolutoin", "did you mean 'evolution'"),
        ("--strategy", "--strategy needs a value"),
        ("--strategy local --evaluate tables", "did you mean 'table'"),
        ("--strategy local --evaluate score:nothing", "unknown score"),
        ("--strategy local --table t --queries 0", "queries >= 1"),
        ("--strategy local --table no/such --queries 5", "there is no table"),
        ("--strategy local --table t --space darts", "NAS-Bench-201 only"),
        ("--strategy local --table t --budget 3m", "no time of its own"),
        ("--strategy local --table t --search.starts 0", "starts=0"),
        ("--strategy local --evaluate train --space recurrent", "images"),
        ("--strategy local --evaluate shared --queries many", "whole number"),
        ("--strategy halving --evaluate train --train.split 1", "--train.split 0.5"),
    ],
)
def test_mistakes_are_one_line(words, said, oche_, here):
    code, _, err = oche_(f"search {words}")
    assert code == 2 and said in err and err.count("\n") == 1 and not (here / "runs").exists()


def test_shared_weights_are_an_ordinary_search(monkeypatch, oche_, here):
    told = []
    monkeypatch.setattr("oche.cli.search.run_search", lambda config, **fields: told.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        oche_(
            "search --strategy evolution --evaluate shared --queries 40 --space nb201 --search.select.strategy.sample 2"
        )
    assert told[0].search.method.select == ByStrategy(strategy=AgeingEvolution(10, 2), queries=40)
    assert told[0].method == "random-ws"


def test_the_help_names_evaluators(oche_):
    code, out, _ = oche_("search --strategy local --help")
    assert code == 0 and "--evaluate" in out and "score:NAME" in out and "--search.starts" not in out
    assert "--search.starts" in oche_("search --strategy local --help-all")[1]
