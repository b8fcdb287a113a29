"""What commands say at their end: what was reached, in what time, where the report is, and what to write next."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import oche
import small_runs
from oche.cli.common import say_next
from oche.core.console import Log
from oche.report.format_numbers import format_duration


def commands(out: str) -> list[list[str]]:
    """The commands of the ``next:`` lines of ``out``, as words."""
    lines = out.partition("\nnext: ")[2]
    found = [re.split(r"\s{3,}", line.strip())[0] for line in lines.splitlines() if re.match(r"\s*oche ", line)]
    return [shlex.split(command) for command in found]


def test_next_lines_are_aligned(capsys):
    say_next(Log(), ("oche a", "one"), ("oche bcd e", "another"))
    assert capsys.readouterr().out == "next: oche a       one\n      oche bcd e   another\n"


@pytest.mark.slow  # commands
def test_what_is_said_next_can_be_typed(oche_, here, quick, monkeypatch):
    """A search, its training and an export in a directory with a space in its name; every command is carried out."""
    monkeypatch.setattr("oche.cli.common._exports_onnx", lambda: False)
    code, out, err = oche_("search", *small_runs.TINY, "--out", "my runs/a b")
    assert code == 0 and not err
    assert (here / "my runs/a b/report.html").exists()
    train, published, show = commands(out)
    assert train == ["oche", "train", "my runs/a b", "--recipe", "small"] and published == [
        "oche",
        "train",
        "my runs/a b",
    ]
    assert oche_(*show[1:])[0] == 0 and (here / "my runs/a b/pictures/a b-normal.svg").exists()

    code, out, err = oche_(*train[1:], *small_runs.TRAIN[2:])
    assert code == 0 and not err
    assert "report: my runs/a b/train/report.html; my runs/a b/report.html shows it too\n" in out
    evaluate, predict, export = commands(out)
    assert predict == ["oche", "predict", "my runs/a b/train", "YOUR/IMAGES"]
    assert export == ["oche", "export", "my runs/a b/train", "--to", "safetensors"]  # onnx is not there
    code, out, err = oche_(*evaluate[1:])
    assert code == 0 and not err and commands(out) == [predict, export]
    code, out, err = oche_(*export[1:])
    assert code == 0 and not err
    (use,) = commands(out)
    assert use == ["oche", "predict", "my runs/a b/train/export/model.safetensors", "YOUR/IMAGES"]
    from PIL import Image

    (here / "pictures").mkdir()
    Image.new("L", (8, 8), 9).save(here / "pictures/one.png")
    code, out, err = oche_(*use[1:-1], "pictures")
    assert code == 0 and (here / "predictions.csv").exists()


@pytest.mark.slow
def test_one_time_on_the_terminal_in_the_summary_in_the_records_and_in_the_report(oche_, here, monkeypatch):
    code, out, _ = oche_("search", *small_runs.TINY[:-2], "--search.budget", "2s", "--out", "x")
    assert code == 0
    summary = json.loads(Path("x/summary.json").read_text())
    last = json.loads(Path("x/metrics.jsonl").read_text().splitlines()[-1])
    assert last["timings"]["seconds"] == pytest.approx(summary["seconds"], abs=1e-3)
    assert summary["seconds"] >= 2.0 and summary["other_seconds"] > 0
    said = f"time: {format_duration(summary['seconds'])} of a budget of 2s for {summary['steps']} steps; besides, "
    assert said in out
    page = Path("x/report.html").read_text().replace("\u00a0", " ")
    assert f"<b>{format_duration(summary['seconds'])}</b><span>search time</span>" in page


# --- reports of enclosing runs


@pytest.fixture
def written(monkeypatch):
    """The directories whose reports are written, in order; nothing is drawn."""
    found: list[str] = []

    def write(path):
        found.append(str(Path(path).resolve().relative_to(Path.cwd())))
        (Path(path) / "report.html").write_text("a report")
        return Path(path) / "report.html"

    monkeypatch.setattr("oche.report.run_page.write_report", write)
    return found


@pytest.mark.slow
def test_a_training_is_shown_by_the_report_of_its_search(searched, oche_, here, written):
    shutil.copytree(searched.path, here / "runs/x")
    train = ["train", "runs/x", *small_runs.TRAIN]
    assert oche_(*train)[0] == 0 and written == ["runs/x/train", "runs/x"]
    written.clear()
    assert oche_(*train, "--random", "1")[0] == 0  # the report of the search once, at the end
    assert written == ["runs/x/train-2", "runs/x/random-1", "runs/x"]
    written.clear()
    assert oche_("evaluate", "runs/x/train")[0] == 0  # both pages show evaluations
    assert written == ["runs/x/train", "runs/x"]
    written.clear()
    assert oche_("evaluate", "runs/x/train", "--out", "elsewhere/e")[0] == 0 and written == []
    oche.train(oche.Run.open("runs/x"), recipe=small_runs.recipe())
    assert written == ["runs/x/train-3", "runs/x"]
    written.clear()
    (here / "runs/x/report.html").unlink()  # nobody asked for one
    assert oche_(*train)[0] == 0 and written == ["runs/x/train-4"]


@pytest.mark.slow
def test_a_training_that_was_stopped_is_shown_when_it_is_resumed(searched, oche_, here, written, monkeypatch):
    from oche.runs.session import DirectorySession

    shutil.copytree(searched.path, here / "runs/x")
    with monkeypatch.context() as patch:
        patch.setattr(DirectorySession, "stopping", lambda self: True)
        assert oche_("train", "runs/x", *small_runs.TRAIN)[0] == 130 and written == []
    assert oche_("resume", "runs/x/train")[0] == 0 and written == ["runs/x/train", "runs/x"]


@pytest.mark.slow  # reports
def test_a_report_says_the_accuracy_once_the_training_is_there(tmp_path):
    from oche.report.run_page import refresh_reports, write_report
    from report_runs import make_run, make_training

    path = make_run(tmp_path / "x", epochs=1, trained=False, toy=False, nodes=1)
    assert "has no test accuracy yet" in write_report(path).read_text()
    make_training(path / "train", 0.9375, epochs=1)
    assert refresh_reports(path / "train" / "evaluation-other") == [path / "report.html"]
    page = (path / "report.html").read_text()
    assert "has no test accuracy yet" not in page and "93.75\u00a0%" in page
    assert refresh_reports(tmp_path) == []
