"""The cost of the final network in a search that optimises it: in sentences, as curves, on the page of a run and of several."""

from __future__ import annotations

import json

import pytest

from oche.report.comparison_page import write_comparison
from oche.report.comparison_runs import find_runs
from oche.report.comparison_tables import result_tables
from oche.report.findings import cost_finding, has_costs
from oche.report.html.page import Table
from oche.report.metrics import ACCURACY, CostTarget
from oche.report.plots.curves import cost_curves
from oche.report.run_page import write_report
from report_pages import Page, assert_self_contained
from report_runs import make_run, search_records, write_json, write_records

PARAMETERS = CostTarget("parameters", 1e6)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("parameters", 852742, "852.7 k"), ("parameters", 12, "12"), ("flops", 1.07e9, "1.07 GFLOPs"),
        ("flops", 700, "700 FLOPs"), ("latency", 4.7123, "4.712 ms"), ("latency", None, "–"),
    ],
)  # fmt: skip
def test_costs_are_written_with_their_unit(kind, value, text):
    assert CostTarget(kind, None).text(value) == text


def test_a_search_that_minds_nothing_or_something_unknown_has_no_price():
    assert CostTarget.of({"priced": {"kind": ["flops"]}}) is None  # damaged
    assert (
        CostTarget.of({}) is None
        and CostTarget.of({"priced": {"kind": "beauty"}}) is None
        and CostTarget.of({"priced": 3}) is None
    )
    assert CostTarget.of({"priced": {"kind": "flops", "target": None}}) == CostTarget("flops", None)


@pytest.mark.parametrize(
    ("price", "records", "text"),
    [
        (PARAMETERS, [{"epoch": 1, "cost": 2e6, "cost_found": 9e5}],
         "The search also optimises the parameters of the final network (target: at most 1 M). At epoch 1 the expected cost of "
         "the mixture is 2 M; the network of the cell chosen at that epoch costs 900 k, within the target."),
        (CostTarget("latency", 4.0), [{"epoch": 0, "cost": 9.0}, {"epoch": 2, "cost": 5.0, "cost_found": 4.5}, {"epoch": 3}],
         "The search also optimises the latency of the final network (target: at most 4 ms). At epoch 2 the expected cost of the "
         "mixture is 5 ms; the network of the cell chosen at that epoch costs 4.5 ms, above the target."),
        (CostTarget("flops", None), [{"epoch": 4, "cost": 2e6}],
         "The search also optimises the FLOPs of the final network (no target). At epoch 4 the expected cost of the mixture is "
         "2 MFLOPs."),
        (PARAMETERS, [{"epoch": 1, "cost": None}], ""),
    ],
)  # fmt: skip
def test_what_came_of_it_in_words(price, records, text):
    assert cost_finding(records, price) == text


def test_the_curves_are_the_records_in_the_axis_unit():
    records = [{"epoch": e, "cost": 2e6 - e * 1e5, "cost_found": 3e6 - e * 1e6, "val_acc": e / 10} for e in range(3)]
    upper, lower = cost_curves(records, PARAMETERS, ACCURACY).axes
    mixture, cell, target = upper.lines
    assert [*mixture.get_ydata()] == pytest.approx([2.0, 1.9, 1.8]) and upper.get_ylabel() == "parameters (M)"
    assert [*cell.get_ydata()] == pytest.approx([3.0, 2.0, 1.0]) and [*cell.get_xdata()] == [0, 1, 2]
    assert [*target.get_ydata()] == [1.0, 1.0] and target.get_label() == "target 1 M"
    assert [*lower.lines[0].get_ydata()] == pytest.approx([0.0, 10.0, 20.0]) and lower.get_ylabel() == "accuracy (%)"
    assert has_costs(records) and not has_costs([{"epoch": 1}])
    assert len(cost_curves(records, CostTarget("parameters", None)).axes[0].lines) == 2  # no target, no line for it


def minding(path, target=1e6):
    """A run directory of a search that minds parameters: its mixture ends at 1.5 M, its cell at 0.9 M."""
    make_run(path, epochs=3, trained=False, toy=False, nodes=1)
    space = json.loads((path / "space.json").read_text()) | {"priced": {"kind": "parameters", "target": target}}
    write_json(path / "space.json", space)
    write_json(path / "summary.json", json.loads((path / "summary.json").read_text()) | {"cost": 9e5})
    ends = search_records(3, nodes=1)
    write_records(
        path / "metrics.jsonl", [r | {"cost": 1.5e6, "cost_found": 2e6 - 1.1e6 * r["epoch"] / 3} for r in ends]
    )
    return path


@pytest.mark.slow
def test_the_page_of_a_run_draws_them(tmp_path):
    page = Page(write_report(minding(tmp_path / "run")))
    assert_self_contained(page)
    assert "parameters of the final network (target 1 M)" in page.words and "900 k" in page.words
    assert "costs 900 k, within the target." in page.words
    assert (tmp_path / "run/pictures/costs.png").stat().st_size > 5000
    assert "Parameters of the final network, and validation accuracy in the search" in page.words
    plain = Page(write_report(make_run(tmp_path / "plain", epochs=2, trained=False, toy=False, nodes=1)))
    assert "Parameters of the final network" not in plain.words and not (tmp_path / "plain/pictures/costs.svg").exists()


def test_a_comparison_has_their_columns(tmp_path):
    minding(tmp_path / "a"), minding(tmp_path / "b", None)
    make_run(tmp_path / "c", epochs=2, trained=False, toy=False)
    table = next(t for t in result_tables(find_runs([tmp_path])) if isinstance(t, Table) and t.name == "runs")
    cost, target = (table.columns.index(name) for name in ("parameters of the final network", "target in parameters"))
    assert [(row[cost].value, row[target].value) for row in table.cells] == [(9e5, 1e6), (9e5, None), (None, None)]
    assert "latency of the final network" not in table.columns
    assert_self_contained(Page(write_comparison([tmp_path], tmp_path / "page.html")))
