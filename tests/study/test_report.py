"""The report of a study: every number against one worked out here, and what it says where it knows too little."""

from __future__ import annotations

import re
import statistics

import pytest
import yaml

import study_files
from oche.cli.main import main
from oche.core.errors import OcheError
from oche.study import run as study_run
from oche.study.report import write_study_report
from oche.study.results import trial_results
from study_pages import table


def test_the_page_is_one_small_file_and_pictures_lie_beside_it(study):
    page = (study / "report.html").read_text()
    assert len(page) < 5e6 and "<script src" not in page and "http-equiv" in page
    for name in ("results-digits", "ranks-digits", "incumbents-digits"):
        assert (study / "pictures" / f"{name}.png").stat().st_size > 5000
        assert f"pictures/{name}.svg" in (study / "report.md").read_text()
    for file in (study / "report.md", study / "report.html", *study.glob("tables/*.csv")):
        assert not re.search(r"\b(nan|inf)\b", file.read_text(), re.IGNORECASE), file


def test_it_is_the_same_every_time(study, tmp_path):
    before = {file: file.read_bytes() for file in (study / "report.html", study / "report.md", *study.glob("tables/*"))}
    write_study_report(study)
    assert {file: file.read_bytes() for file in before} == before


def test_a_study_that_is_reported_can_still_be_gone_on_with(study):
    study_run.check_directory(study)  # refuses folders with foreign files


def test_a_study_that_has_only_begun_has_a_report(tmp_path):
    asked = study_files.study(tmp_path, grid={"method": ["darts", "random"], "seed": [0]}, recipe="small")
    study_run.write_study(asked)
    text = write_study_report(asked.place.out).with_suffix(".md").read_text()
    assert "2 trials: 2 waiting" in text and "No trial has a result yet." in text


def test_no_study_is_refused(tmp_path):
    with pytest.raises(OcheError, match=r"is no study: it has no study\.yaml"):
        write_study_report(tmp_path)


# --- a real one -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_study_from_its_file_to_its_report(tmp_path, monkeypatch, capsys):
    study_files.here(monkeypatch)
    file = study_files.write(tmp_path, recipe="small", jobs=1, grid={"method": ["darts", "random"], "seed": [0]})
    assert main(["study", str(file), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["study", "report", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'report.html'}\n"
    out = tmp_path / "out"
    reached = {row.seed: 100 * row.numbers["test_acc"] for row in trial_results(out) if row.labels["method"] == "darts"}
    row = table(out, "digits-results")["darts"]
    assert (row["n"], float(row["mean"])) == ("1", pytest.approx(statistics.fmean(reached.values())))
    assert len(table(out, "checklist")) == 14
    assert yaml.safe_load((out / "study.yaml").read_text())["recipe"] == "small"
    assert main(["study", str(out), "--quiet"]) == 0  # pictures and tables are no foreign files
