"""A black-box search in a directory: what it writes, how it goes on, and what it refuses."""

import json

import pytest

import oche
from made_scores import REAL, real
from oche.core.errors import OcheError
from oche.strategies import LocalSearch, resume, search
from oche.strategies.run import config_of, default_path, make_config

SCORE = dict(evaluate="score:weights", data="digits", limit=40, batch=4, device="cpu")


def space():
    return oche.spaces.nb201(channels=4, cells=1, candidates=("skip_connect", "nor_conv_3x3"))


@real
def test_a_search_on_the_table(tmp_path):
    run = search("local", table=REAL, queries=120, seed=2, out=tmp_path / "x")
    assert run.summary["queries"] == run.summary["distinct"] == 120 and run.summary["epochs_stood_for"] == 1440
    assert run.summary["regret"] == pytest.approx(0.9437 - run.summary["true_acc"], abs=1e-4)
    assert run.summary["incumbents"][-1][2] == run.summary["score"]
    assert (tmp_path / "x" / "genotype.txt").read_text() == f"{run.genotype}\n"
    assert json.loads((tmp_path / "x" / "summary.json").read_text())["arch"] == run.summary["arch"]
    journal = (tmp_path / "x" / "journal.jsonl").read_bytes()
    (tmp_path / "x" / "journal.jsonl").write_bytes(journal[: len(journal) // 2])  # killed
    again = resume(tmp_path / "x")
    assert (tmp_path / "x" / "journal.jsonl").read_bytes() == journal and again.genotype == run.genotype


def test_a_search_without_a_table(tmp_path):
    run = search("local", space=space(), queries=40, out=tmp_path / "x", **SCORE)
    assert run.summary["evaluator"] == "score:weights" and run.summary["score"] == run.summary["weights"]
    assert {op for op, _, _ in run.genotype.cells["cell"].edges} == {"nor_conv_3x3"}  # the most weights
    assert search(LocalSearch(), space=space(), queries=20, **SCORE).path is None


def test_a_directory_of_other_settings_is_refused(tmp_path):
    search("random", space=space(), queries=3, out=tmp_path / "x", **SCORE)
    with pytest.raises(OcheError, match="holds a search with seed=0, not 1"):
        search("random", space=space(), queries=3, seed=1, out=tmp_path / "x", **SCORE)
    longer = search("random", space=space(), queries=5, out=tmp_path / "x", **SCORE)
    assert len(longer.found.trials) == 5
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "mine.txt").touch()
    with pytest.raises(OcheError, match="has other files"):
        search("random", space=space(), queries=3, out=tmp_path / "y", **SCORE)
    with pytest.raises(OcheError, match="no journal"):
        config_of(tmp_path / "y")
    (tmp_path / "x" / "journal.jsonl").write_text('{"event": "ask", "trial": 0}\n')
    with pytest.raises(OcheError, match="no journal of a search"):
        resume(tmp_path / "x")


def test_settings_of_a_call():
    config = make_config(LocalSearch(starts=3), "train", "nb201", {"recipe": "darts", "queries": 4})
    assert config.strategy == "local" and config.search.starts == 3 and config.data == "digits"
    assert config.train.split == 0.5 and config.train.channels == 36
    assert make_config("random", "train", None, {}).space == oche.spaces.darts()
    assert make_config("random", "table", None, {}).data == "cifar10"
    assert str(default_path(config)).startswith("runs/digits-local")
    with pytest.raises(OcheError, match="unknown recipe"):
        make_config("random", "train", None, {"recipe": "drts"})
    with pytest.raises(OcheError, match="no field 'querys'"):
        make_config("random", "train", None, {"querys": 3})


def test_what_found_nothing_says_why(tmp_path):
    run = search("halving", evaluate="train", space=space(), queries=2, data="digits", limit=40, out=tmp_path / "x",
                 train=oche.training.small(split=0.5, channels=2, cells=1, steps=1, batch=8), device="cpu")  # fmt: skip
    assert run.found.best is None and not (tmp_path / "x" / "genotype.txt").exists()
    with pytest.raises(OcheError, match="was a full one"):
        _ = run.genotype


@pytest.mark.slow
def test_evaluations_in_processes(tmp_path):
    run = search("random", space=space(), queries=4, jobs=2, out=tmp_path / "x", **SCORE)
    alone = search("random", space=space(), queries=4, **SCORE)
    assert {t.key: t.report.score for t in run.found.trials} == {t.key: t.report.score for t in alone.found.trials}
