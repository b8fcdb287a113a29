"""Comparisons: what differs is marked, tables hold the numbers, and the page is whole for any runs."""

import json
import re
from dataclasses import replace

import pytest

from oche.cli import main as cli
from oche.core.architecture import Cell, Genotype
from oche.report.comparison_cells import cell_sections, mark_differences
from oche.report.comparison_page import figure_sections, write_comparison
from oche.report.comparison_runs import find_runs, read_compared_run
from oche.report.comparison_tables import headline_cards, result_tables, settings_sections
from oche.report.drawings.cell import MARK
from oche.report.heatmap import FRAMES, heat_maps
from oche.report.html.page import Table
from oche.report.html.page import render_page as html
from oche.report.plots import small_multiples as multiples
from oche.report.read_run import read_run
from report_pages import HOSTILE, Page, assert_self_contained
from report_runs import make_run, make_training, random_cell, write_json

A, B = "sep_conv_3x3", "skip_connect"


def made(path, method="darts", seed=0, accuracy=None, nodes=1, epochs=2):
    make_run(path, epochs=epochs, trained=False, toy=False, nodes=nodes)
    write_json(path / "config.yaml", {"method": method, "seed": seed, "search": {"epochs": epochs}})
    if accuracy is not None:
        make_training(path / "train", accuracy, epochs=2)
    return path


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    out = tmp_path_factory.mktemp("four")
    for method, base in (("darts", 0.90), ("gdas", 0.80)):
        for seed in (0, 1):
            made(out / f"{method}-{seed}", method, seed, round(base + seed / 50, 2), 4 if seed else 1)
    return out


def test_edges_that_only_one_cell_has_are_marked():
    one = Cell(((A, 0, 2), (B, 1, 2), (A, 0, 3), (A, 0, 3)), (2, 3))
    other = Cell(((A, 0, 2), (A, 1, 2), (A, 0, 3), (B, 2, 3)), (2, 3))
    drawn, said = mark_differences(one, other)
    assert drawn.edges == (
        (A, 0, 2),
        (f"{MARK} {B}", 1, 2),
        (A, 0, 3),
        (f"{MARK} {A}", 0, 3),
    )  # the second of two alike
    assert said == f"2 of 4 edges only here: {B} 1→2, {A} 0→3"
    assert mark_differences(one, one) == (one, "the same edges")
    assert mark_differences(one, Cell(one.edges, (3,)))[1] == "the same edges; its output joins nodes 2, 3"


def test_pairs_of_cells_show_their_differences_by_sign_and_width():
    cells = (
        Genotype({"normal": Cell(((A, 0, 2), (B, 1, 2)), (2,))}),
        Genotype({"normal": Cell(((A, 0, 2), (A, 1, 2)), (2,))}),
    )
    (section,) = cell_sections([("x", cells[0]), ("y", cells[1])])
    fold = section.items[1]
    assert fold.summary == "y beside x: normal cell 1 of 2 edges differ" and fold.open
    for figure, op in zip(fold.items[0].items, (B, A), strict=True):
        assert f"{MARK} {op}" in figure.svg and figure.svg.count(f'">{MARK} ') == 1
        assert figure.svg.count('stroke-width="3.2"') == 1
    assert cell_sections([]) == [] and cell_sections([("x", cells[0])])[0].items[0]


def table(items, name) -> Table:
    return next(item for item in items if isinstance(item, Table) and item.name == name)


def test_numbers_are_those_of_the_runs(four):
    found = find_runs([four])
    runs = table(result_tables(found), "runs")
    at = runs.columns.index("test accuracy")
    assert [row[at].value for row in runs.cells] == [0.90, 0.92, 0.80, 0.82]
    assert [row[runs.columns.index("seed")].value for row in runs.cells] == [0, 1, 0, 1]
    assert "true accuracy" not in runs.columns and "random cells" not in runs.columns  # nobody has them
    groups = table(result_tables(found), "groups")
    assert [[cell.text.replace("\u00a0", " ") for cell in row] for row in groups.cells] == [
        ["darts", "2", "91.00 ± 1.41 %", "92.00 %", "90.00 %"], ["gdas", "2", "81.00 ± 1.41 %", "82.00 %", "80.00 %"],
    ]  # fmt: skip
    assert headline_cards(found)[1] == ("best test accuracy: darts-1", "92.00\u00a0%")
    assert settings_sections(found)[0].items[0].columns == ("run", "method")


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


def test_many_runs_fit_one_page(tmp_path):
    """Forty searches of 300 epochs: epochs are left out until the weights fit."""
    run = read_run(make_run(tmp_path / "run", epochs=300, trained=False, toy=False))
    assert len(heat_maps([("one", run)]).runs[0]["epochs"]) == FRAMES
    maps = heat_maps([(str(i), run) for i in range(40)])
    kept = maps.runs[0]["epochs"]
    assert 10 < len(kept) < FRAMES and (kept[0], kept[-1]) == (0, 300)
    assert len(json.dumps(maps.runs)) < 4_000_000


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


def test_curves_are_thinned_evenly_from_end_to_end():
    curve = [(float(i), 0.0) for i in range(101)]
    assert multiples.thin(curve, 5) == [(0.0, 0.0), (25.0, 0.0), (50.0, 0.0), (75.0, 0.0), (100.0, 0.0)]
    assert multiples.thin(curve[:5], 5) == curve[:5]


def test_panels_share_their_axes(tmp_path):
    run = read_run(make_run(tmp_path / "run", epochs=4, trained=False, toy=False))
    held = multiples.held_out_curve(run.records, run.metric)
    assert [x for x, _ in held] == [1, 2, 3, 4] and held[-1][1] == pytest.approx(100 * run.records[-1]["val_acc"])
    frame = multiples.axis_limits([held, [(1, 5.0), (9, 60.0)]])
    assert frame[0] == (1, 9) and frame[1][0] < 5.0 and frame[1][1] > max(60.0, held[-1][1])
    axes = multiples.group_panel("x", [held], [], [[(1, 5.0), (9, 60.0)]], frame, run.metric).axes[0]
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert axes.get_xlim() == frame[0] and axes.get_ylim() == frame[1] and len(axes.lines) == 2
