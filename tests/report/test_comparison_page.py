"""Comparisons: what differs is marked, tables hold the numbers, and the page is whole for any runs."""

import json
import re
from dataclasses import replace

import pytest

from oche.cli import main as cli
from oche.core.architecture import Genotype
from oche.report.comparison_page import figure_sections, write_comparison
from oche.report.comparison_runs import read_compared_run
from oche.report.heatmap import FRAMES, heat_maps
from oche.report.html.page import render_page as html
from oche.report.read_run import read_run
from report_pages import HOSTILE, Page, assert_self_contained
from report_runs import made, make_run, make_training, random_cell, write_json


def test_the_page_of_a_comparison_is_whole(four):
    assert cli.main(["report", str(four)]) == 0
    page = Page(four / "report.html")
    assert page.sections() == ["numbers", "settings", "curves", "heat", "cells", "places"]
    assert_self_contained(page)
    assert "4 runs in 2 groups" in page.words and "gdas-1 beside darts-0" in page.words
    data = json.loads(re.search(r'"application/json">(.*?)</script>', page.source, re.DOTALL)[1])
    assert [run["name"] for run in data] == ["darts-0", "darts-1", "gdas-0", "gdas-1"]
    assert len(page.source) < 5_000_000


def test_hostile_runs_are_shown_and_never_run(tmp_path):
    for i, text in enumerate(HOSTILE):
        path = made(tmp_path / str(i))
        write_json(path / "config.yaml", {"method": text, "seed": text, text: text})
        write_json(path / "space.json", {"groups": {"normal": {"candidates": [text] * 8}}})
    page = Page(write_comparison([tmp_path], tmp_path / "page.html"))
    assert_self_contained(page)
    assert not {"img", "iframe"} & {tag for tag, _ in page.elements} and "49" not in page.words.split()


def test_unfinished_runs_and_runs_of_other_kinds_are_compared(tmp_path):
    running = made(tmp_path / "running")
    for name in ("metrics.jsonl", "genotype.txt", "summary.json"):
        (running / name).unlink(missing_ok=True)
    runs = [running, make_training(tmp_path / "trained", 0.9, epochs=1), make_training(tmp_path / "waiting", None)]
    page = Page(write_comparison(runs, tmp_path / "page.html"))
    assert_self_contained(page)
    assert page.sections() == ["numbers", "curves", "cells", "places"] and "90.00 %" in page.words


@pytest.mark.slow
def test_many_runs_fit_one_page(tmp_path):
    """Forty searches of 300 epochs: epochs are left out until the weights fit."""
    run = read_run(make_run(tmp_path / "run", epochs=300, trained=False, toy=False))
    assert len(heat_maps([("one", run)]).runs[0]["epochs"]) == FRAMES
    maps = heat_maps([(str(i), run) for i in range(40)])
    kept = maps.runs[0]["epochs"]
    assert 10 < len(kept) < FRAMES and (kept[0], kept[-1]) == (0, 300)
    assert len(json.dumps(maps.runs)) < 4_000_000


@pytest.mark.slow
def test_the_page_of_many_long_runs_in_many_groups_stays_small(tmp_path):
    """60 searches of 200 epochs in 20 groups, all with other cells than the first."""
    one = read_compared_run("run", made(tmp_path / "run", nodes=4, epochs=200))
    cells = [Genotype({"normal": random_cell(i), "reduce": random_cell(100 + i)}) for i in range(60)]
    found = [
        replace(one, name=f"run {i}", group=f"group {i % 20}", run=replace(one.run, genotype=cell))
        for i, cell in enumerate(cells)
    ]
    text = html("many", figure_sections(found))
    assert text.count("<figure") >= 20 and 'id="cells"' in text
    assert 1_000_000 < len(text.encode()) < 5_000_000
