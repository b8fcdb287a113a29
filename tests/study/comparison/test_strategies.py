"""Strategies in a comparison: runs on a table, the control in closed form, costs, and going on."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from comparisons import cells_of, put, setting
from oche.blackbox import closed_form
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS
from oche.spaces.nasbench201_ground_truth import load_ground_truth
from oche.strategies.query_cost import evenly
from oche.study.comparison import run as comparison_run
from oche.study.comparison import strategies
from oche.study.comparison.strategies import marks, read_results
from oche.study.comparison.table import write_table

QUIET = Log(quiet=True)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A table with validation accuracies. A cell is better the more 3 × 3 convolutions it has."""
    archs = ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*row) for row in itertools.product(OPERATIONS, repeat=6)]
    valid = np.array([10.0 * arch.count("nor_conv_3x3") for arch in archs]) + np.arange(len(archs)) / 1e5
    path = tmp_path_factory.mktemp("table") / "searched.parquet"
    pq.write_table(pa.table({"arch": archs, "cifar10_valid_12ep": valid, "cifar10_test_200ep": valid / 2 + 40}), path)
    return path


def asked(table, out, **fields):
    fields = {"methods": ("local", "evolution"), "queries": 30, "runs": 4, "query_seconds": 3600.0, **fields}
    return setting(table, out, **fields)


@pytest.fixture(scope="module")
def known(searched):
    return load_ground_truth(searched, "cifar10")


@pytest.fixture(scope="module")
def finished(searched, tmp_path_factory):
    """A finished comparison, for all tests of this module."""
    this = asked(searched, tmp_path_factory.mktemp("compare"))
    assert comparison_run.run_comparison(this, QUIET) == 0
    return this


@pytest.fixture
def made(finished, tmp_path):
    """A copy of the finished comparison."""
    return replace(finished, out=Path(shutil.copytree(finished.out, tmp_path / "copy")))


def test_a_strategy_has_a_row_with_its_estimated_cost(made):
    text = (made.out / "table.md").read_text()
    local, evolution = read_results(made)
    assert [r.name for r in (local, evolution)] == ["local", "evolution"] and len(local.final) == 4
    mean = np.mean(local.final)
    row = cells_of(text, "local")
    assert row[1].startswith(f"{mean:.2f} ±") and row[5:7] == ["4", "≈ 30"] and row[8] == "30 queries"
    assert evolution.seconds[0][-1] <= 30 * 3600 and cells_of(text, "evolution")[6].startswith("≈ ")
    assert cells_of(text, "evolution")[-1] == "93.92 ± 0.30 (2001.00326)"
    assert "estimated" in text and "given: 3600 s a training" in text
    assert (made.out / "compare.svg").exists() and (made.out / "incumbents.svg").exists()


def test_the_control_is_the_closed_form_of_random_search(made, known):
    table = known.table
    value, shown = (
        np.array([table.accuracy(a, c) for a in table.archs]) for c in ("cifar10_valid_12ep", "cifar10_test_200ep")
    )
    want = closed_form.random_search(value, shown, 30)
    row = cells_of((made.out / "table.md").read_text(), "random search, closed form")
    assert row[1] == f"{want.mean:.2f} ± {want.sd:.2f}" and row[5:7] == ["exact", "≈ 30"]
    write_table(replace(made, methods=("darts",), queries=None), known)  # it stands in every table
    row = cells_of((made.out / "table.md").read_text(), "random search, closed form")
    assert row[1] == f"{closed_form.random_search(value, shown, 100).mean:.2f} ± " + row[1].split(" ± ")[1]


def test_kept_runs_are_not_made_again(made, known, monkeypatch):
    before = json.loads((made.out / "strategies/local.json").read_text())["rows"]
    seeds = []

    def run(self, strategy, seed, queries):
        seeds.append(seed)
        return [1.0] * len(queries), [2.0] * len(queries), False

    monkeypatch.setattr(strategies.TableRuns, "run_with_costs", run)
    strategies.run_strategies(made, known, QUIET, lambda: False)
    assert seeds == []
    strategies.run_strategies(replace(made, runs=6, methods=("local",)), known, QUIET, lambda: False)
    assert seeds == [4, 5]
    rows = json.loads((made.out / "strategies/local.json").read_text())["rows"]
    assert rows[:4] == before and rows[4][0][-1] == 1.0
    strategies.run_strategies(replace(made, queries=31, methods=("local",)), known, QUIET, lambda: False)
    assert seeds == [4, 5, 0, 1, 2, 3]  # another length


def test_an_interrupted_comparison_goes_on_bit_for_bit(searched, known, tmp_path):
    whole, parts = asked(searched, tmp_path / "whole"), asked(searched, tmp_path / "parts")
    calls = itertools.count()
    for this, stopping in ((whole, lambda: False), (parts, lambda: next(calls) > 2), (parts, lambda: False)):
        this.out.mkdir(exist_ok=True)
        strategies.run_strategies(this, known, QUIET, stopping)
    rows = [json.loads((this.out / "strategies/local.json").read_text())["rows"] for this in (whole, parts)]
    assert rows[0] == rows[1] and len(rows[0]) == 4 and next(calls) > 3


def test_methods_and_strategies_stand_together(made, known):
    put(made.out, "darts", 0, 65, step_ms=30.0)
    both = replace(made, methods=("local", "darts"))
    write_table(both, known)
    text = (made.out / "table.md").read_text()
    assert "40 steps or 30 queries for each search" in text and cells_of(text, "darts")[6] == "0.00022"


def test_marks_are_all_small_numbers_and_some_larger():
    assert marks(7) == (1, 2, 3, 4, 5, 6, 7) and marks(12) == (*range(1, 12), 12)
    assert marks(500)[:11] == (*range(1, 12),) and marks(500)[-1] == 500 and len(marks(500)) == 44
    assert set(marks(100)) <= set(marks(500))


REFUSED = {
    "queries=5 is the length of strategies": dict(methods=("darts",), queries=5),
    "halving: ": dict(methods=("halving",)),
    "unknown method 'locale'; did you mean 'local'?": dict(methods=("locale",)),
    "no column 'cifar10_valid_12ep'": dict(),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_compared_is_refused(searched, table, tmp_path, says):
    fields = REFUSED[says]
    with pytest.raises(OcheError) as refusal:
        comparison_run.run_comparison(asked(searched if fields else table, tmp_path / "new", **fields), QUIET)
    assert says in str(refusal.value) and not (tmp_path / "new").exists()


@pytest.mark.parametrize("fields", [dict(queries=0), dict(runs=0), dict(query_seconds=0.0)])
def test_impossible_settings_are_refused(searched, tmp_path, fields):
    with pytest.raises(OcheError, match=f"{next(iter(fields))}=0"):
        asked(searched, tmp_path, **fields)


def test_costs_are_timed_once(searched, known, tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr(strategies, "timed_cost", lambda data, engine: timed.append(data) or evenly(5.0))
    this = asked(searched, tmp_path, methods=("random",), runs=1, query_seconds=None)
    strategies.run_strategies(this, known, QUIET, lambda: False)
    assert timed == ["cifar10"] and read_results(this)[0].seconds[0][0] == 5.0
