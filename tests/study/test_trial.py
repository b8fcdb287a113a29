"""A trial is named by its configuration and read as it was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import small_runs
import study_files
from class_folders import write
from forked_oche import run_code
from oche.core.errors import OcheError
from oche.data.manifest import FIRST, SECOND, TEST
from oche.runs.config import SearchConfig, TrainConfig
from oche.runs.membership import Earlier
from oche.strategies import LocalSearch
from oche.study import local
from oche.study import run as study_run
from oche.study import trial as trials
from oche.study.grid import make_trial
from oche.study.results import trial_result, trial_results
from oche.study.trial import Trial
from oche.training.image_recipes import Recipe
from study_files import LOG

pytestmark = pytest.mark.slow  # a process that is killed


def test_the_name_of_a_trial_is_its_configuration(tmp_path, monkeypatch):
    (trial,) = study_files.study(tmp_path, recipe="small", grid={"method": "darts"}).trials
    train = trial.train
    same = [
        replace(trial, labels={"method": "another"}),
        replace(trial, search=replace(trial.search, device="cuda", threads=3, checkpoint=1.0)),
        replace(trial, search=replace(trial.search, data_dir=Path("/elsewhere"))),
    ]
    assert {t.id for t in same} == {trial.id} and len(trial.id) == 12
    others = [
        replace(trial, search=replace(trial.search, seed=1)),
        replace(trial, search=replace(trial.search, engine="plain")),
        replace(trial, search=replace(trial.search, search=replace(trial.search.search, steps=4))),
        replace(trial, train=replace(train, train=replace(train.train, steps=3))),
        replace(trial, train=None),
    ]
    monkeypatch.setattr("oche.study.trial.__version__", "another")
    others.append(replace(trial))
    assert len({t.id for t in (*same, *others)}) == 1 + len(others)


def test_a_control_has_no_method_whose_settings_could_tell_it_apart(tmp_path):
    grid = {"method": ["random", "darts"], "search.steps": [3, 4]}
    study = study_files.study(tmp_path, recipe="small", grid=grid)
    assert [t.control for t in study.trials].count(True) == 1 and len(study.trials) == 3


def test_the_text_of_a_plugin_counts(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    ids = set()
    for text in ("x = 1\n", "x = 2\n"):
        plugin.write_text(text)
        ids.add(study_files.study(tmp_path, plugins=[str(plugin)], grid={"method": "darts"}).trials[0].id)
    assert len(ids) == 2


def test_ids_are_those_of_version_0_1():
    """The first two were computed by that version; studies of then go on. A new field counts once it is set."""
    plain = Trial({}, SearchConfig(seed=3), TrainConfig(genotype="DARTS_V2"))
    assert (plain.id, Trial({}, SearchConfig(), None).id) == ("dc2e31e95981", "298f4bc85a00")
    assert replace(plain, train=replace(plain.train, train=Recipe(taken_lr=0.1))).id != plain.id


def test_a_trial_is_read_as_it_was_written(tmp_path):
    study = study_files.study(tmp_path, recipe="small", grid={"method": ["pc-darts", "random"], "search.w.lr": 0.05})
    for trial in study.trials:
        trial.write(tmp_path / trial.id)
        back = Trial.read(tmp_path / trial.id)
        assert back == trial and back.id == trial.id
        tree = json.loads((tmp_path / trial.id / "trial.json").read_text())
        assert (tree["id"], tree["group"], tree["seed"]) == (trial.id, trial.group, trial.seed)


def test_a_trial_that_was_killed_goes_on_to_the_same_end(tmp_path, started, monkeypatch):
    study = study_files.study(tmp_path, recipe="small", checkpoint=0, grid={"method": "darts"})
    assert study_run.run_study(study, LOG, "x") == 0
    (whole,) = trial_results(tmp_path / "out")
    out = tmp_path / "killed"
    trial: Trial = study.trials[0]
    trial.write(out)
    script = f"""
import os, signal
from pathlib import Path
import oche.report.run_page
from oche.bilevel.search import Search
from oche.core.console import Log
from oche.study.trial import run_trial
step = Search.step
def dying(self, at, progress):
    if at == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, at, progress)
Search.step = dying
oche.report.run_page.write_report = lambda path: path
run_trial(Path({str(out)!r}), Log(quiet=True))
"""
    assert run_code(script, tmp_path / "said")[0] == -9
    assert local.TrialJob.at(out).describe_outcome() == "killed" and local.TrialJob.at(out).progress_row()[
        1
    ] == pytest.approx(1 / 3, abs=0.2)

    assert trial_result(out).state == "interrupted"
    trials.run_trial(out, LOG)
    again = trial_result(out)
    assert (again.state, again.genotype) == ("complete", whole.genotype)
    assert {k: v for k, v in again.numbers.items() if "second" not in k and "_ms" not in k} == {
        k: v for k, v in whole.numbers.items() if "second" not in k and "_ms" not in k
    }
    assert small_runs.same_weights(out / "train", whole.path / "train")
    assert small_runs.metrics(out / "search") == small_runs.metrics(whole.path / "search")


def test_all_trials_are_tested_on_the_same_images_while_the_data_change(tmp_path, monkeypatch):
    small_runs.no_report(monkeypatch)
    data = write(tmp_path / "data", {"ants": range(20), "bees": range(20, 40)})
    grid = {"method": ["darts", "gdas", "random"]}
    study = study_files.study(tmp_path, data=str(data), limit=None, recipe="small", grid=grid)
    tested, sizes = [], []
    for trial in study.trials:
        path = tmp_path / "out" / "trials" / trial.id
        trial.write(path)
        trials.run_trial(path, LOG)
        manifest = Earlier.read(path / "train", LOG).manifest
        tested.append(set(manifest.ids[manifest.members(TEST)].tolist()))
        sizes.append(len(manifest.members(FIRST, SECOND)))
        write(data, {"ants": range(100 * len(sizes), 100 * len(sizes) + 10)}, prefix="0")
    assert tested[0] == tested[1] == tested[2] and len(tested[0]) == 8
    assert sizes == [32, 42, 52]


def test_the_parts_of_a_study_may_be_those_of_a_run(tmp_path):
    (own,) = study_files.study(tmp_path, recipe="small", grid={"method": "darts"}).trials
    (kept,) = study_files.study(tmp_path, recipe="small", parts=str(tmp_path / "x"), grid={"method": "darts"}).trials
    assert kept.search.parts == kept.train.parts == tmp_path / "x" and kept.id != own.id


def by_strategy(**settings):
    asked = {
        "method": "local", "space": "nb201", "space.channels": 2, "space.cells": 1, "data": "digits", "limit": 60, "seed": 1,
        "device": "cpu", "strategy.evaluate": "score:weights", "strategy.queries": 5, "strategy.search.starts": 2,
    }  # fmt: skip
    return make_trial({**asked, **settings}, {}, "asked.yaml")


def test_a_trial_may_search_by_a_strategy(tmp_path):
    trial = by_strategy()
    trial.write(tmp_path)
    assert Trial.read(tmp_path) == trial and trial.strategy.search == LocalSearch(starts=2)
    assert (trial.strategy.seed, trial.strategy.limit, trial.strategy.data) == (1, 60, "digits")
    trials.run_trial(tmp_path, LOG)
    found = trial_result(tmp_path)
    journal = [json.loads(line) for line in (tmp_path / "strategy/journal.jsonl").read_text().splitlines()]
    best = max((e for e in journal if e["event"] == "tell"), key=lambda e: e["score"])
    asked = next(e for e in journal if e["event"] == "ask" and e["trial"] == best["trial"])
    assert found.state == "complete" and found.genotype == asked["genotype"] and found.numbers["queries"] == 5
    assert found.numbers["search_seconds"] > 0 and local.TrialJob.at(tmp_path).parts == ()


def test_the_id_of_a_trial_knows_its_strategy():
    own = by_strategy().id
    assert by_strategy(device="cuda", threads=3).id == own
    ids = {by_strategy(**other).id for other in ({"strategy.queries": 6}, {"strategy.search.starts": 3}, {"seed": 2})}
    assert len({own, *ids}) == 4
    with pytest.raises(OcheError, match="needs NAS-Bench-201's accuracies"):
        by_strategy(**{"strategy.evaluate": "table"})
    with pytest.raises(OcheError, match="queries=0"):
        by_strategy(**{"strategy.queries": 0})
