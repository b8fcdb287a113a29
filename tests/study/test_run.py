"""Studies from beginning to end: what runs, what never runs twice, what is tried once more, what is said."""

from __future__ import annotations

import pytest
import yaml

import study_files
from oche.core.errors import OcheError
from oche.core.lock import Lock
from oche.core.seeds import generator
from oche.runs.run import Run
from oche.study import local
from oche.study import run as study_run
from oche.study import trial as trials
from oche.study.config import read_study
from oche.study.results import trial_results
from paths import ROOT
from study_files import LOG

GRID = {"method": ["darts", "random"], "seed": [0, 1]}


@pytest.mark.slow
def test_every_trial_is_searched_and_trained_and_the_control_is_only_trained(tmp_path, started):
    space = {"channels": 2, "cells": 3, "nodes": 2}  # with enough cells that random ones differ
    study = study_files.study(tmp_path, recipe="small", space=space, grid=GRID)
    assert study_run.run_study(study, LOG, "x") == 0
    found = trial_results(tmp_path / "out")
    assert [trial_result.id for trial_result in found] == started == [t.id for t in study.trials]
    assert {trial_result.state for trial_result in found} == {"complete"}
    darts, control = found[:2]
    assert (darts.group, darts.seed) == ("darts · darts · digits", 0)
    assert darts.labels == {"method": "darts", "space": "darts", "data": "digits"}
    search, train = Run.open(darts.path / "search"), Run.open(darts.path / "train")
    assert darts.genotype == str(search.genotype) == str(train.genotype)
    assert darts.numbers["test_acc"] == train.summary["test_acc"]
    assert darts.numbers["search_val_acc"] == search.summary["val_acc"]
    assert darts.numbers["parameters"] == train.summary["parameters"] and darts.numbers["flops"] > 0
    assert darts.numbers["search_steps"] == 3 and darts.numbers["train_steps"] == 2
    assert darts.numbers["search_seconds"] > 0 and darts.numbers["train_seconds"] > 0
    assert not (control.path / "search").exists()
    space = study.trials[1].search.space
    assert control.genotype == str(space.random(generator(0, "random cell"))) != found[3].genotype
    assert control.numbers["train_steps"] == 2 and "search_seconds" not in control.numbers
    # the networks of both are trained alike: all that differs is the cell
    of = [(trial_result.path / "train/config.yaml").read_text() for trial_result in (darts, control)]
    cells = [Run.open(trial_result.path / "train").config.genotype for trial_result in (darts, control)]
    assert Run.open(darts.path / "train").config.train == Run.open(control.path / "train").config.train
    assert cells[0] != cells[1] and len(of[0].splitlines()) == len(of[1].splitlines())


@pytest.mark.slow
def test_more_seeds_run_the_new_ones_only_and_nothing_runs_twice(tmp_path, started):
    assert study_run.run_study(study_files.study(tmp_path, grid={"method": "darts", "seed": [0]}), LOG, "x") == 0
    first = trial_results(tmp_path / "out")
    assert len(started) == 1
    more = study_files.study(tmp_path, grid={"method": "darts", "seed": [1, 0]})
    assert study_run.run_study(more, LOG, "x") == 0
    assert started == [t.id for t in more.trials] and trial_results(tmp_path / "out")[0] == first[0]
    assert study_run.run_study(more, LOG, "x") == 0
    assert (
        study_run.run_study(read_study(tmp_path / "out", out=str(tmp_path / "out")), LOG, "x") == 0
    )  # from its own directory
    assert len(started) == 2
    fewer = study_files.study(tmp_path, grid={"method": "darts", "seed": [1]})
    assert study_run.run_study(fewer, LOG, "x") == 0
    assert [trial_result.seed for trial_result in trial_results(tmp_path / "out")] == [1] and len(started) == 2


@pytest.mark.slow
def test_a_crash_leaves_the_others_going_and_is_tried_once_more(tmp_path, started, monkeypatch, capsys):
    study = study_files.study(tmp_path, grid={"method": ["darts", "gdas", "snas"]})
    work, crashes = trials._work, {study.trials[0].id: 1, study.trials[1].id: 9}

    def crashing(path, *rest):
        if crashes.get(path.name, 0) > 0:
            crashes[path.name] -= 1
            raise RuntimeError("out of luck")
        return work(path, *rest)

    monkeypatch.setattr(trials, "_work", crashing)
    assert study_run.run_study(study, LOG, "x") == 1
    names = [t.id for t in study.trials]
    assert started == [*names, names[0], names[1]]
    assert [trial_result.state for trial_result in trial_results(tmp_path / "out")] == [
        "complete",
        "failed",
        "complete",
    ]
    assert capsys.readouterr().err.count("gdas · seed 0: RuntimeError: out of luck") == 2
    crashes.clear()
    assert study_run.run_study(study, LOG, "x") == 0 and started[5:] == [names[1]]  # asked for anew, it is tried anew


def test_a_mistake_is_not_tried_again(tmp_path, started, monkeypatch):
    study = study_files.study(tmp_path, grid={"method": ["darts"]})

    class Mistaken(study_files.Here):
        def __init__(self, *rest):
            super().__init__(*rest)
            self.exit_code = 2

    def refused(*rest):
        raise OcheError("no")

    monkeypatch.setattr(trials, "_work", refused)
    monkeypatch.setattr(local, "start_process", Mistaken)
    assert study_run.run_study(study, LOG, "x") == 1 and len(started) == 1


def test_two_drivers_do_not_share_a_study(tmp_path, started):
    study = study_files.study(tmp_path, grid={"method": "darts"})
    (tmp_path / "out").mkdir()
    lock = Lock(tmp_path / "out")
    try:
        with pytest.raises(OcheError, match="is in use by"):
            study_run.run_study(study, LOG, "x")
    finally:
        lock.release()
    assert not started and not (tmp_path / "out/study.yaml").exists()


def test_something_else_is_left_alone(tmp_path, started):
    study = study_files.study(tmp_path, grid={"method": "darts"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").touch()
    with pytest.raises(OcheError, match="is no study and not empty"):
        study_run.run_study(study, LOG, "x")
    with pytest.raises(OcheError, match="is no study: it has no study"):
        trial_results(tmp_path / "out")


@pytest.mark.slow
def test_the_example_runs_at_a_tiny_size(tmp_path, started):
    example = yaml.safe_load((ROOT / "examples/study.yaml").read_text())
    assert read_study(ROOT / "examples/study.yaml").trials[8].group == "random · darts · digits"
    tiny = {**example, **study_files.TINY, "recipe": "small", "grid": {**example["grid"], "seed": 0}}
    del tiny["search.epochs"]  # its length is in steps
    study = study_files.study(tmp_path, **{k: v for k, v in tiny.items() if k != "out"})
    assert study_run.run_study(study, LOG, "x") == 0
    assert [trial_result.labels["method"] for trial_result in trial_results(tmp_path / "out")] == [
        "beta-darts",
        "darts",
        "random",
    ]
    assert all("test_acc" in trial_result.numbers for trial_result in trial_results(tmp_path / "out"))
