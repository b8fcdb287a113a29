"""Whatever names and files say, a page is whole and runs nothing of theirs."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oche.report.run_page import write_report
from report_pages import HOSTILE, Page, assert_self_contained
from report_runs import make_run, make_training, write_json


@pytest.mark.slow
def test_a_second_report_is_the_same_file(tmp_path):
    page = write_report(make_run(tmp_path / "run", epochs=1, trained=False, nodes=1))
    before = page.read_bytes()
    assert write_report(page.parent) == page and page.read_bytes() == before
    assert not list(page.parent.glob("**/.*"))  # no half-written file stays


@pytest.mark.slow
def test_hostile_names_are_shown_and_never_run(tmp_path):
    note = "".join(HOSTILE)
    path = make_run(tmp_path / "run", epochs=1, trained=False, toy=False, classes=HOSTILE, note=note, nodes=1)
    space = json.loads((path / "space.json").read_text())
    space["groups"]["normal"]["candidates"] = [*HOSTILE, "a", "b", "c"]
    space["network"][0]["name"] = HOSTILE[0]
    space["space"] = HOSTILE[1]
    write_json(path / "space.json", space)
    (path / "config.yaml").write_text(f"data: {note}\n", encoding="utf-8")
    write_json(path / "environment.json", {HOSTILE[0]: HOSTILE[1], "argv": list(HOSTILE)})
    (path / "genotype.txt").write_text(note, encoding="utf-8")
    page = Page(write_report(path))
    assert_self_contained(page)
    assert [tag for tag, _ in page.elements].count("script") == 2  # the data of the heat maps, and the page's own
    assert "img" not in [tag for tag, _ in page.elements]
    for text in (*HOSTILE, f"data: {note}"):
        assert " ".join(text.split()) in page.words
    assert "49" not in page.words.split()
    assert len(re.findall("<script>alert", page.source)) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "size"]), inner, max_size=2),
    max_leaves=5,
)
KEYS = [
    "network",
    "classes",
    "image",
    "in_channels",
    "space",
    "started",
    "error",
    "state",
    "note",
    "parameters",
    "argv",
]


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=6),
    st.sampled_from(["space.json", "status.json", "summary.json", "environment.json"]),
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_files_say_the_page_is_whole(tmp_path, value, name):
    path = make_training(tmp_path / "train", None)
    write_json(path / name, value)
    assert_self_contained(Page(write_report(path)))
