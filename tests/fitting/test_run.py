"""A fit from its plan to its page: stages, interruption, comparison, and its use by other commands."""

from __future__ import annotations

import json
import re

import pytest

import oche
import small_runs
from oche.cli.main import main
from oche.core.console import Log
from oche.devices.engine import Engine
from oche.fitting import run as fits
from oche.fitting.comparison import right_predictions
from oche.fitting.planner import CLOSING, FitPlan
from oche.runs.claim import is_run
from oche.runs.config import FitConfig
from oche.runs.plan import load_data
from oche.training.loop import Interrupted

pytestmark = pytest.mark.slow  # three trainings of three seconds
LOG = Log(quiet=True)


def tiny_plan(data, decision="search") -> FitPlan:
    """A plan for images of 12 × 12 pixels: three search steps, and trainings of three seconds."""
    return FitPlan(
        decision, ("a tiny plan",), "RESNET" if decision == "prior" else "DARTS_V2", 4, 1 if decision == "prior" else 3, "cifar",
        8, data.image, 0.05, 1000, 300_000, 1.0, 3, 3.0, 15.0, CLOSING, 60.0 - CLOSING, None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A fit that was stopped before its second control, and its output then; it is finished by `oche.resume`."""
    folder = tmp_path_factory.mktemp("fit")
    config = FitConfig(data=str(small_runs.npz(folder / "x.npz")), budget="1m", export=False)
    data, path, start = load_data(config, LOG), folder / "mine", fits.start_run

    def stop_at_the_random_cell(at, plan, **options):
        if at.name == "control-random":
            raise Interrupted
        start(at, plan, **options)

    with pytest.MonkeyPatch.context() as patch:
        small_runs.no_report(patch)
        patch.setattr(fits, "start_run", stop_at_the_random_cell)
        with pytest.raises(Interrupted):
            fits.start_fit(path, config, tiny_plan(data), data, overwrite=False, log=LOG)
        before = oche.Run.open(path)
        told = (
            before.state,
            (path / "train" / "weights.safetensors").stat().st_mtime_ns,
            (path / "report.html").read_text(),
        )
        patch.setattr(fits, "start_run", start)
        return oche.resume(path), told


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
    for control in (residual, random):
        assert control.config.train.budget == train.config.train.budget == "3s"
        assert control.config.seed == train.config.seed
    assert random.config.train == train.config.train
    assert 0.5 < residual.summary["flops"] / 300_000 < 2  # like the planned cost


def test_the_comparison_is_of_the_predictions_of_both(fitted):
    run, _ = fitted
    config = run.config
    data, engine = load_data(config, LOG), Engine("cpu")
    own = right_predictions(run.path / "train", data, engine)
    compared = run.summary["comparisons"]
    assert compared["images"] == len(own) == 12 and compared["accuracy"] == sum(own) / 12 == run.summary["test_acc"]
    for name, control in compared["controls"].items():
        theirs = right_predictions(run.path / name, data, engine)
        assert control["only_a"] == sum(a and not b for a, b in zip(own, theirs, strict=True))
        assert control["difference"] == pytest.approx((sum(own) - sum(theirs)) / 12)


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


def test_the_plan_alone_makes_no_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oche.fitting.run.make_plan", lambda config, data, *given: tiny_plan(data, "prior"))
    small_runs.npz(tmp_path / "x.npz")
    assert main(["fit", "x.npz", "--budget", "1m", "--plan"]) == 0
    out = capsys.readouterr().out
    assert "a tiny plan" in out and "ready after" in out and [p.name for p in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x.npz", "--budget", "10s"], "too short to train and assess a network"),
        (["x.npz", "--holdout", "0", "--budget", "1m"], "no test images"),
        (["absent.npz", "--budget", "1m"], "no such file or folder"),
        (["x.npz", "--genotype", "DARTS_V9", "--budget", "1m"], "no published genotype"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    import numpy as np

    g = np.random.default_rng(0)
    np.savez("x.npz", x=g.integers(0, 255, (40, 12, 12), dtype=np.uint8), y=np.arange(40) % 2)
    assert main(["fit", *words]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_plan_json_is_plain(fitted):
    run, _ = fitted
    assert FitPlan.from_dict(json.loads((run.path / "plan.json").read_text()), "x").why == ("a tiny plan",)
