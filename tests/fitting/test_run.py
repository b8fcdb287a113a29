"""A fit from its plan to its page: stages, interruption, comparison, and its use by other commands."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import oche
import small_fits
import small_runs
from oche.cli.main import main
from oche.core.budget import parse_duration
from oche.core.console import Log
from oche.fitting import run as fits
from oche.fitting.planner import FitPlan
from oche.runs.claim import is_run
from oche.runs.config import FitConfig
from oche.runs.run_data import load_data

pytestmark = pytest.mark.slow  # three trainings of three seconds


def test_a_fit_that_was_stopped_has_its_network_and_goes_on(fitted):
    run, (state, written, page) = fitted
    assert state == "interrupted" and "plain residual network" in page
    assert run.state == "complete" and run.kind == "fit"
    assert (run.path / "train" / "weights.safetensors").stat().st_mtime_ns == written  # not trained again
    assert all(is_run(run.path / name) for name in ("search", "train", "control-residual", "control-random"))


def test_the_stages_are_what_was_planned(fitted):
    run, _ = fitted
    search, train, residual, random = (
        oche.Run.open(run.path / name) for name in ("search", "train", "control-residual", "control-random")
    )
    assert search.summary["steps"] == 3 and train.config.genotype == str(search.genotype)
    assert residual.genotype == oche.genotypes.get("RESNET") and random.genotype != search.genotype
    whole = parse_duration(train.config.train.budget) + search.summary["seconds"]
    assert parse_duration(residual.config.train.budget) == pytest.approx(
        whole, abs=0.51
    )  # the search's time is its too
    assert residual.config.seed == random.config.seed == train.config.seed
    assert random.config.train == train.config.train
    assert 0.5 < residual.summary["flops"] / 300_000 < 2  # like the planned cost


def test_the_page_says_what_was_planned_and_what_happened(fitted):
    run, _ = fitted
    text = re.sub("<[^>]+>", " ", (run.path / "report.html").read_text())
    assert "a tiny plan" in text and "random cell of the space" in text and "exact McNemar test on 12 images" in text
    assert "complete" in text and f"oche predict {run.path.name} FOLDER" in text
    assert str(run.path.parent) not in text  # a page may be passed on; paths of this machine do not belong into it


def test_other_commands_take_the_network_of_a_fit(fitted, tmp_path, capsys):
    run, _ = fitted
    net = oche.load(run.path)
    assert net.classes == ("0", "1", "2", "3") and net.image == (12, 12)
    assert main(["evaluate", str(run.path), "--device", "cpu"]) == 0
    assert f"{100 * run.summary['test_acc']:.2f} %" in capsys.readouterr().out
    assert (
        main(["export", str(run.path), "--to", "safetensors", "--out", str(tmp_path / "w.safetensors"), "--no-card"])
        == 0
    )
    again = oche.train(run, recipe=small_runs.recipe(), out=tmp_path / "again")
    assert again.config.genotype == oche.Run.open(run.path / "train").config.genotype


def test_a_complete_fit_has_nothing_to_resume(fitted, capsys):
    run, _ = fitted
    assert main(["resume", str(run.path)]) == 0
    assert "complete; nothing to resume" in capsys.readouterr().out


def test_plan_json_is_plain(fitted):
    run, _ = fitted
    assert FitPlan.from_dict(json.loads((run.path / "plan.json").read_text()), "x").why == ("a tiny plan",)


def test_without_test_images_there_is_a_network_and_no_comparison(tmp_path, quick):
    config = FitConfig(
        data=str(small_runs.unsplit_npz(tmp_path / "x.npz")), budget="1m", holdout=0, control=False, export=False
    )
    data = load_data(config, Log(quiet=True))
    run = fits.start_fit(
        tmp_path / "mine", config, small_fits.tiny_plan(data, "prior"), data, overwrite=False, log=Log(quiet=True)
    )
    assert run.state == "complete" and run.summary["comparisons"] == {} and oche.load(run).image == (12, 12)
    assert "all images trained it" in (run.path / "report.html").read_text()


@pytest.mark.parametrize(("asked", "sides"), [(None, [130, 65, 32]), (130, [130])])
def test_images_are_halved_while_the_time_is_short_for_them(tmp_path, monkeypatch, asked, sides):
    images = np.random.default_rng(0).integers(0, 255, (16, 130, 130, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(16) % 2, x_test=images, y_test=np.arange(16) % 2)
    planned = []

    def short(config, data, engine, spent, init):
        planned.append(data.image[0])
        return small_fits.tiny_plan(data, "prior")

    monkeypatch.setattr(fits, "make_plan", short)
    config, plan, data = fits.plan_fit(FitConfig(data=str(tmp_path / "x.npz"), size=asked), Log(quiet=True))
    assert planned == sides and plan.image == data.image == (sides[-1], sides[-1])
    assert config.size == (asked or 32)
