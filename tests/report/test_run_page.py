"""The page: whole, self-contained and harmless at every stage of a run, whatever the files say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from oche.core.atomic_files import read_json
from oche.core.errors import OcheError
from oche.report.run_page import write_report
from report_pages import Page, assert_self_contained
from report_runs import make_run, make_training, toy_data, write_json


def test_a_whole_report_has_every_part(whole):
    page = Page(whole)
    assert page.sections() == [
        "cells", "gain", "heat", "health", "training", "network", "toy", "numbers", "details",
    ]  # fmt: skip
    for words in (
        "98.12 %", "97.85 ± 0.35", "3 random cells", "37.4 s", "221,034", "31.4 M", "212 ms", "44.1 ms",
        "659", "411", "296", "335", "data: digits", "2.13.0", "method darts", "images 8×8, 1 channel",
        "3 classes: zero, one, two",
    ):  # fmt: skip
        assert words in page.words, words
    assert_self_contained(page)
    assert len(page.source) < 5_000_000


def test_a_training_is_reported(tmp_path):
    page = Page(write_report(make_training(tmp_path / "train", 0.97, epochs=3)))
    assert page.sections() == ["cells", "training", "network", "numbers", "details"]
    assert "97.00 %" in page.words and "recipe darts" in page.words
    assert_self_contained(page)


def test_a_training_without_any_result_is_reported(tmp_path):
    page = Page(write_report(make_training(tmp_path / "train", None)))
    assert "no epoch has been recorded yet" in page.words


def test_each_fact_of_the_note_has_its_line(tmp_path):
    path = make_training(tmp_path / "train", 0.97, epochs=1)
    note = "1 archive was not read: a.zip; not used: val (3 images)"
    write_json(path / "summary.json", read_json(path / "summary.json") | {"note": note})
    source = Page(write_report(path)).source
    assert re.findall(r"<li>(.*?)</li>", source[source.index('class="notes"') :])[:2] == note.split("; ")


def test_the_toy_alone_is_reported(tmp_path):
    write_json(tmp_path / "toy.json", toy_data())
    write_json(tmp_path / "status.json", {"kind": "toy", "state": "complete"})
    page = Page(write_report(tmp_path))
    assert page.sections() == ["toy", "details"]
    assert all(str(n) in page.words for n in (659, 411, 296, 335))
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == {"toy.svg", "toy.png"}


@pytest.mark.slow
def test_random_cells_without_a_result_are_counted(tmp_path):
    path = make_run(tmp_path / "run", epochs=1, toy=False, nodes=1)
    for name in ("summary.json", "metrics.jsonl"):
        (path / "random-2" / name).unlink()
    page = Page(write_report(path))
    assert "1 of 3 random cells have no result yet" in page.words
    assert "random-2 : No epoch has been recorded" in page.words


def test_where_there_is_no_run_there_is_no_report(tmp_path):
    with pytest.raises(OcheError, match="not a run directory"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_report_module_is_cheap_to_import():
    """A search starts without matplotlib, jinja2 and scipy, `oche show` also without torch."""
    for modules, heavy in (
        ("oche.report.run_page, oche.report.comparison_page", "{'matplotlib', 'jinja2', 'scipy'}"),
        ("oche.report.drawings.cell, oche.report.terminal", "{'matplotlib', 'jinja2', 'scipy', 'torch', 'numpy'}"),
    ):
        code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"
