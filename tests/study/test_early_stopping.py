"""Epochs are told one by one, and trials that trail are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

import study_files
from oche.cli import main as cli
from oche.runs.directory import read_metrics
from oche.study import local
from oche.study import ray as ray_study
from oche.study.config import Study
from oche.study.early_stopping import TrialEpochs
from oche.study.results import trial_results
from oche.study.trial import mark_trial


def test_epochs_are_given_one_by_one_and_those_there_without_work(tmp_path, monkeypatch):
    begun = study_files.here(monkeypatch)
    monkeypatch.setattr("oche.study.early_stopping.start_process", study_files.Here)
    (trial,) = study_files.study(
        tmp_path, grid={"method": "darts"}
    ).trials  # 60 digits, half of them, batches of 16: 2 epochs
    trial.write(tmp_path / "t")
    job = local.TrialJob.at(tmp_path / "t")

    def given(metric: str = "val_acc") -> list[dict]:
        follower, found = TrialEpochs(job, metric, 1), []
        while not (found and "done" in found[-1]):
            found.append(follower.next())
        return found

    first = given()
    assert given() == first and len(begun) == 1
    there = [(r["epoch"], r["val_acc"]) for r in read_metrics(job.path / "search") if r["epoch"]]
    assert [(r["epoch"], r["val_acc"]) for r in first] == there and len(there) >= 2
    assert ["done" in r for r in first] == [False] * (len(there) - 1) + [True]
    assert given("no_such_thing") == [{"done": True}] and len(begun) == 1

    (tmp_path / "t/summary.json").unlink()  # killed before its very end
    monkeypatch.setattr("oche.study.trial._work", lambda *rest: 1 / 0)
    follower = TrialEpochs(job, "val_acc", 1)
    assert [follower.next() for _ in there[:-1]] == first[:-1]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        follower.next()
    assert len(begun) == 2


def test_a_trial_that_was_stopped_is_done_until_it_is_asked_for_again(tmp_path):
    (trial,) = study_files.study(tmp_path, grid={"method": "darts"}).trials
    trial.write(tmp_path / "t")
    mark_trial(tmp_path / "t", "stopped", "stopped after epoch 3")
    job = local.TrialJob.at(tmp_path / "t")
    assert job.stopped() and not job.outcome() and job.describe_outcome() == "stopped after epoch 3"


@pytest.mark.slow
def test_those_that_trail_are_stopped_early_and_nothing_is_done_again(tmp_path, without_reports):
    pytest.importorskip("ray", reason="needs Ray: pip install 'oche[study]'")
    # The second would need a hundred epochs at its rate: after two it is behind the first (24 to 10 %).
    tune = {"samples": 1, "reduction": 2, "grace": 2, "over": {"search.batch": {"among": [16]}}}
    grid = {"method": "darts", "search.w.lr": [0.1, 0.0011]}
    space = {"channels": 2, "cells": 3, "nodes": 2}
    keys = dict(jobs=1, limit=300, space=space, search={"epochs": 24}, grid=grid, tune=tune)
    file = study_files.write(tmp_path, **keys)
    with one_cluster(study_files.study(tmp_path, **keys)):
        check_twice(file, tmp_path / "out")


def check_twice(file: Path, out: Path) -> None:
    for _ in range(2):
        assert cli.main(["study", str(file), "--on", "ray", "--quiet"]) == 0
        first, second = trial_results(out)
        assert (first.state, second.state) == ("complete", "stopped")
        epochs = [read_metrics(row.path / "search")[-1]["epoch"] for row in (first, second)]
        assert epochs[0] == 24 and 2 <= epochs[1] < 24
        said = (row.path / "log.txt" for row in (first, second))
        # Asked for once more, both are judged by the epochs that there are, and nothing is begun.
        assert [log.read_text().count("oche study trial ") for log in said] == [1, 1]
    assert not [*out.glob("ray-*")]  # Tune's own files are gone


@contextmanager
def one_cluster(study: Study) -> Iterator[None]:
    """Both times the study runs on the cluster that the first time would start; that takes longer than the trials."""
    with ray_study._cluster(None, study.place), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_study, "_cluster", lambda *where: nullcontext())
        yield
