"""The page: whole, self-contained and harmless at every stage of a run, whatever the files say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oche.core.errors import OcheError
from oche.report.heatmap import FRAMES, run_frames
from oche.report.read_run import read_run
from oche.report.run_page import write_report
from report_pages import HOSTILE, Page, assert_self_contained
from report_runs import make_run, make_training, toy_data, write_json


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A report of everything that `oche demo` leaves."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "whole", epochs=4))


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


def test_every_picture_lies_beside_the_page_as_svg_and_png(whole):
    names = {file.stem for file in (whole.parent / "pictures").iterdir()}
    assert names == {
        "cell-normal", "cell-reduce", "comparison", "search-curves", "train-curves", "entropy", "skip-share", "operations", "toy",
        "heatmap-normal", "heatmap-reduce", "snapshots-normal", "snapshots-reduce", "evolution-normal", "evolution-reduce",
        "network-search", "network-train",
    }  # fmt: skip
    for name in names:
        assert (whole.parent / f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (whole.parent / f"pictures/{name}.svg").read_text(encoding="utf-8")
        assert "<svg" in svg and svg.rstrip().endswith("</svg>")


def test_the_heat_maps_in_the_page_hold_the_recorded_weights(whole):
    run = read_run(whole.parent)
    data = json.loads(
        re.search(r'"application/json">\[(.*?)\]</script>', whole.read_text(encoding="utf-8"), re.DOTALL)[1]
    )
    assert data["epochs"] == [0, 1, 2, 3, 4]
    for shown, group in zip(data["groups"], run.mixtures, strict=True):
        assert shown["edges"] == [f"{i}→{j}" for i, j in group.edges]
        for frame, (_, weights) in zip(shown["frames"], group.history, strict=True):
            assert frame == [[round(v, 4) for v in row] for row in weights]
    normal = data["groups"][0]
    wanted = sorted(
        (normal["edges"].index(f"{i}→{j}"), normal["candidates"].index(op)) for op, i, j in run.genotype.normal.edges
    )
    assert sorted(map(tuple, normal["chosen"][-1])) == wanted


def test_a_second_report_is_the_same_file(tmp_path):
    page = write_report(make_run(tmp_path / "run", epochs=1, trained=False, nodes=1))
    before = page.read_bytes()
    assert write_report(page.parent) == page and page.read_bytes() == before
    assert not list(page.parent.glob("**/.*"))  # no half-written file stays


def test_a_long_search_keeps_its_first_and_last_heat_map(tmp_path):
    run = read_run(make_run(tmp_path / "run", epochs=500, trained=False, toy=False))
    heat = run_frames("run", run)
    assert len(heat["epochs"]) == FRAMES and (heat["epochs"][0], heat["epochs"][-1]) == (0, 500)


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


def test_a_training_is_reported(tmp_path):
    page = Page(write_report(make_training(tmp_path / "train", 0.97, epochs=3)))
    assert page.sections() == ["cells", "training", "network", "numbers", "details"]
    assert "97.00 %" in page.words and "recipe darts" in page.words
    assert_self_contained(page)


def test_a_training_without_any_result_is_reported(tmp_path):
    page = Page(write_report(make_training(tmp_path / "train", None)))
    assert "no epoch has been recorded yet" in page.words


def test_the_toy_alone_is_reported(tmp_path):
    write_json(tmp_path / "toy.json", toy_data())
    write_json(tmp_path / "status.json", {"kind": "toy", "state": "complete"})
    page = Page(write_report(tmp_path))
    assert page.sections() == ["toy", "details"]
    assert all(str(n) in page.words for n in (659, 411, 296, 335))
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == {"toy.svg", "toy.png"}


def test_random_cells_without_a_result_are_counted(tmp_path):
    path = make_run(tmp_path / "run", epochs=1, toy=False, nodes=1)
    for name in ("summary.json", "metrics.jsonl"):
        (path / "random-2" / name).unlink()
    page = Page(write_report(path))
    assert "1 of 3 random cells have no result yet" in page.words
    assert "random-2 : No epoch has been recorded" in page.words


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


@given(
    st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=6),
    st.sampled_from(["space.json", "status.json", "summary.json", "environment.json"]),
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_files_say_the_page_is_whole(tmp_path, value, name):
    path = make_training(tmp_path / "train", None)
    write_json(path / name, value)
    assert_self_contained(Page(write_report(path)))


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
