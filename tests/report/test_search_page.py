"""The page of a search, finished or not."""

from __future__ import annotations

import json

import pytest

from oche.report.run_page import write_report
from report_pages import Page, assert_self_contained
from report_runs import make_run, write_json


@pytest.mark.slow
@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_unfinished_searches_are_reported(tmp_path, state):
    path = make_run(tmp_path / state, epochs=1, state=state, trained=False, toy=False, nodes=1)
    status = json.loads((path / "status.json").read_text())
    write_json(path / "status.json", status | {"error": "Diverged: loss <nan>"})
    page = Page(write_report(path))
    told = {"running": "still running", "interrupted": "oche resume", "failed": "failed: Diverged: loss <nan>"}
    assert told[state] in page.words
    assert ("Diverged" in page.words) == (state == "failed")
    assert "normal cell so far" in page.words and "no test accuracy yet" in page.words
    assert_self_contained(page)


def test_a_search_before_its_first_epoch_is_reported(tmp_path):
    path = make_run(tmp_path / "run", state="running", trained=False, toy=False)
    for name in ("metrics.jsonl", "genotype.txt"):
        (path / name).unlink()
    page = Page(write_report(path))
    for words in ("There is no genotype to draw yet", "no heat map", "No epoch has been recorded"):
        assert words in page.words
    assert page.sections() == ["cells", "gain", "heat", "health", "network", "numbers", "details"]
