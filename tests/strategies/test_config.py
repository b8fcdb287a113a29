"""Settings of a black-box search: contradictions, and the evaluator that they ask for."""

from pathlib import Path

import pytest

import oche
from made_scores import REAL, real
from oche.core.config.serialize import from_dict
from oche.core.errors import OcheError
from oche.strategies import LocalSearch, TableAccuracy, Training, TrainingFree
from oche.strategies.config import StrategyConfig, make_evaluator
from oche.training import small


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"evaluate": "tabel"}, "did you mean 'table'"),
        ({"evaluate": "score:synflo"}, "did you mean 'synflow'"),
        ({"queries": 0}, "queries >= 1"),
        ({"queries": 3, "budget": "1m", "evaluate": "train"}, "contradict each other"),
        ({"budget": "1m"}, "no time of its own"),
        ({"by": "test_acc"}, "val_acc or losses"),
        ({"jobs": 0}, "jobs=0"),
        ({"queries": "many"}, "takes"),
    ],
)
def test_contradictions_are_refused(fields, said):
    with pytest.raises(OcheError, match=said):
        StrategyConfig(**fields)


def test_lengths():
    assert StrategyConfig().length == 100 and StrategyConfig(queries=7).length == 7
    timed = StrategyConfig(evaluate="train", budget="1h30m")
    assert timed.length is None and timed.seconds == 5400 and StrategyConfig().seconds is None


def test_a_record_reads_back():
    config = StrategyConfig(
        strategy="local", search=LocalSearch(3, "first"), space=oche.spaces.darts(cells=3), table=Path("t"),
        train=small(split=0.5, epochs=2),
    )  # fmt: skip
    assert from_dict(StrategyConfig(), config.record(), "file") == config


def test_a_table_must_be_known(monkeypatch, tmp_path):
    monkeypatch.delenv("OCHE_NB201", raising=False)
    with pytest.raises(OcheError, match="--table FILE or in OCHE_NB201"):
        StrategyConfig().in_full()
    with pytest.raises(OcheError, match="no column for data 'digits'"):
        StrategyConfig(data="digits", table=tmp_path / "t").in_full()
    assert StrategyConfig(data="cifar100", table=tmp_path / "t").in_full().column == "cifar100_valid_12ep"
    monkeypatch.setenv("OCHE_NB201", str(tmp_path / "env"))
    assert StrategyConfig().in_full().table == tmp_path / "env"
    with pytest.raises(OcheError, match="NAS-Bench-201 only"):
        StrategyConfig(space=oche.spaces.darts()).in_full()


@real
def test_the_evaluator_of_a_table():
    evaluator, space = make_evaluator(StrategyConfig(table=REAL).in_full())
    assert isinstance(evaluator, TableAccuracy) and evaluator.column == "cifar10_valid_12ep"
    assert space == oche.spaces.nb201()


def test_evaluators_of_images():
    fields = dict(data="digits", limit=40, space=oche.spaces.nb201(channels=4, cells=1))
    evaluator, space = make_evaluator(StrategyConfig(evaluate="train", by="losses", **fields))
    assert isinstance(evaluator, Training) and evaluator.by == "losses" and space.in_channels == 1
    evaluator, _ = make_evaluator(StrategyConfig(evaluate="score:ntk", batch=4, **fields))
    assert isinstance(evaluator, TrainingFree) and evaluator.name == "ntk" and evaluator.batch == 4
    with pytest.raises(OcheError, match="on_shared_weights"):
        make_evaluator(StrategyConfig(evaluate="shared"))
    with pytest.raises(OcheError, match="networks for images"):
        make_evaluator(StrategyConfig(evaluate="train", data="ptb"))
