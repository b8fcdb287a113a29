"""The runs of a study on its page: curves, mixtures under one slider, cells with their differences, and what networks cost."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

import report_studies
from oche.cli.main import main
from oche.core import atomic_files as atomic
from oche.report.drawings.cell import MARK
from oche.report.metrics import ACCURACY
from oche.study.anytime import anytime_panels
from oche.study.groups import comparisons
from oche.study.report import write_study_report
from oche.study.results import trial_results

pytestmark = pytest.mark.slow  # a browser

RESULTS = {(method, seed): 0.9 + seed / 100 for method in ("darts", "gdas", "random") for seed in (0, 1)}
CELL = report_studies.CELL.replace("sep_conv_3x3", "dil_conv_3x3")
COSTS = {"darts": (9e5, 12e5), "gdas": (8e5, 7e5)}  # by seed, at the end


def records(reached: float) -> list[dict]:
    """Of four epochs: mixtures of two edges and three operations; the cell costs 2 M at first and ``reached`` at the end."""
    arch = {name: {"weights": [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], "edges": None} for name in ("normal", "reduce")}
    return [
        {"epoch": e, "val_acc": 0.1 * e, "arch": arch, "timings": {"seconds": 3.0 * e}, "genotype": CELL, "cost": 2e6,
         "cost_found": 2e6 + (reached - 2e6) * e / 3}
        for e in range(4)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two methods that mind parameters, and the control, two seeds each, with the records that searches leave."""
    made = report_studies.make(tmp_path_factory.mktemp("study"), RESULTS)
    for row in trial_results(made):
        if row.labels["method"] == "random":
            (row.path / "train" / "genotype.txt").write_text(report_studies.CELL)
            continue
        reached = COSTS[row.labels["method"]][row.seed]
        search, summary = row.path / "search", atomic.read_json(row.path / "summary.json")
        lines = [json.dumps(record) for record in records(reached)]
        (search / "metrics.jsonl").write_text("\n".join([*lines, ""]))
        (search / "genotype.txt").write_text(CELL if row.labels["method"] == "gdas" else report_studies.CELL)
        report_studies.write_json(search / "space.json", {"priced": {"kind": "parameters", "target": 1e6}})
        report_studies.write_json(row.path / "summary.json", summary | {"search_cost": reached})
    return made


def test_runs_are_drawn_under_the_names_of_their_groups(study):
    page = write_study_report(study).read_text()
    names = [f"{method} · seed {seed}" for method in ("darts", "gdas") for seed in (0, 1)]
    (data,) = re.findall(r'"application/json">(.*?)</script>', page, re.DOTALL)
    assert [run["name"] for run in json.loads(data)] == names
    assert "gdas · seed 0 beside darts · seed 0: normal cell 1 of 2 edges differ, reduce cell the same" in page
    assert "random · seed 1 beside darts · seed 0: normal cell the same, reduce cell the same" in page
    for name in ("curves", "heat", "cells"):
        assert f'<section id="{name}">' in page
    assert len(page) < 5e6


def test_the_cost_of_networks_is_a_table(study):
    write_study_report(study)
    found = {row["group"]: row for row in csv.DictReader(io.StringIO((study / "tables/networks.csv").read_text()))}
    assert [*found] == ["darts", "gdas"]  # random cells mind nothing
    darts = found["darts"]
    assert (darts["what"], darts["n"], float(darts["cost"])) == ("parameters", "2", 1.05e6)
    assert float(darts["target"]) == 1e6 and (darts["within"], found["gdas"]["within"]) == ("1", "2")
    assert "| darts | parameters | 2 | 1.05 ± 0.21 M | 1 M | 1 of 2 |" in (study / "report.md").read_text()


def test_over_time_a_panel_has_the_cost_of_the_cell_chosen_then(study):
    (comparison,) = comparisons(trial_results(study))
    found = anytime_panels(comparison)
    assert [*found] == [
        "validation accuracy of the supernet",
        "parameters of the network of the current cell",
    ]
    accuracy, cost = found.values()
    assert accuracy.metric == ACCURACY and not accuracy.targets
    assert [*cost.targets] == [1e6] and cost.metric.axis == "parameters (M)"
    assert [curve[-1][1] for curve in cost.groups["darts"]] == pytest.approx(COSTS["darts"])
    assert [time for time, _ in cost.groups["gdas"][0]] == pytest.approx([0, 3, 6, 9])
    assert "Below: the cost of the network of the current cell." in (study / "report.md").read_text()


def test_oche_report_of_a_study_is_its_report(study, tmp_path, capsys):
    assert main(["report", str(study)]) == 0
    assert capsys.readouterr().out == f"{study / 'report.html'}\n"
    text = (study / "report.html").read_text()
    assert "Who is better?" in text and "oche study report" in text
    assert main(["report", str(study), "--out", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").read_text() == text and capsys.readouterr().out == f"{tmp_path / 'x.html'}\n"


# --- in a browser


@pytest.fixture(scope="module")
def page(study, browser):
    """(opens the page of the study at a width, offline; what went wrong)."""
    file, wrong, contexts = write_study_report(study).resolve(), [], []

    def show(width: int = 1200, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: wrong.append(message.text))
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.goto(file.as_uri())
        return opened

    yield show, wrong
    for context in contexts:
        context.close()


def test_the_slider_the_tables_and_the_cells_of_a_study_work_in_a_browser(page):
    show, wrong = page
    opened = show()
    heads = opened.locator(".maps > div > h3")
    assert heads.first.inner_text().startswith("darts · seed 0 · epoch 3 of 3")
    opened.locator(".heat input").focus()
    opened.keyboard.press("Home")
    assert heads.nth(3).inner_text().startswith("gdas · seed 1 · epoch 0 of 3")
    names = opened.locator('[data-name="networks"] tbody th')
    opened.locator('[data-name="networks"] thead button', has_text="cost").click()
    assert names.all_inner_texts() == ["gdas", "darts"]
    with opened.expect_download() as download:
        opened.locator('[data-name="networks"] .csv').click()
    assert download.value.suggested_filename == "networks.csv"
    text = Path(download.value.path()).read_text()
    assert [line.split(",")[0] for line in text.splitlines()] == ["group", "gdas", "darts"]
    assert opened.locator("#cells svg text", has_text=MARK).count() > 0
    assert opened.locator("#curves svg").count() == 2  # a panel a method
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_of_a_study_never_scrolls_sideways(page, width, scheme):
    show, wrong = page
    opened = show(width, scheme)
    opened.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    least = opened.eval_on_selector_all(
        "figure svg", "all => all.map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width * 9)"
    )
    assert min(least) >= 7.5  # pixels of the usual text
    assert wrong == []
