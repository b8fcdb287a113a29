"""What a comparison is asked for, and what is refused before anything is made."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from comparisons import put, setting
from oche.cli.search import SearchArgs
from oche.cli.study import CompareArgs
from oche.core.config.command_line import parse as parse_words
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.methods.catalog import METHODS
from oche.runs.directory import RunDir
from oche.spaces import SPACES
from oche.study.comparison import run as comparison_run
from oche.study.comparison.settings import DEFAULT_METHODS, ComparisonConfig
from paths import ROOT


@pytest.mark.parametrize("method", METHODS)
def test_the_line_of_every_method_is_understood(table, tmp_path, method):
    asked = setting(table, tmp_path, methods=(method,), seeds=(4,), tried=30)
    words = asked.words(asked.trials[0])
    assert words[:5] == ["search", "--method", method, "--space", "nb201"]
    default = SearchArgs(method=method, search=METHODS[method].make(), space=SPACES["nb201"]())
    given = parse_words(default, words[5:], prog="x", description="")
    assert (given.search.steps, given.search.batch, given.seed, given.space.channels) == (40, 8, 4, 2)
    assert (given.out, given.table, given.quiet) == (tmp_path / f"{method}-4", table, True)
    counts = {"random-ws": ("count", 30), "one-shot": ("count", 30), "evolution-ws": ("cycles", 30)}
    if method in counts:
        name, value = counts[method]
        assert getattr(given.search.method.select, name) == value
    assert given.search.method.select.asks_supernet == METHODS[method].make().method.select.asks_supernet


def test_options_are_those_of_the_setting_and_have_defaults():
    given = parse_words(CompareArgs, ["--methods", "darts", "gdas", "--seeds", "3", "4"], prog="x", description="")
    assert (given.methods, given.seeds, given.length, given.quiet) == (
        ("darts", "gdas"),
        (3, 4),
        ("budget", "3m"),
        False,
    )
    assert given.shared == ComparisonConfig(methods=("gdas",), out=Path("elsewhere"), jobs=2, table=Path("t")).shared
    assert set(DEFAULT_METHODS) <= set(METHODS)


def test_a_run_that_was_begun_goes_on(table, tmp_path):
    asked = setting(table, tmp_path, methods=("darts",))
    RunDir.create(tmp_path / "darts-0", "", "search").close()
    assert asked.words(asked.trials[0]) == ["resume", str(tmp_path / "darts-0"), "--quiet"]


def test_the_keys_of_setting_json_stay_as_they_are(tmp_path):
    """A comparison of before these names are changed could not be gone on with."""
    asked = ComparisonConfig(data="/data/cifar10.parquet", steps=400, batch=64)
    assert json.dumps(asked.shared) == (
        '{"data": "/data/cifar10.parquet", "steps": 400, "budget": null, "channels": 4, "cells": 1, "limit": 5000, '
        '"batch": 64, "tried": 200, "threads": 1, "device": "auto"}'
    )


REFUSED = {
    "unknown method 'dartz'; did you mean 'darts'?": dict(methods=("dartz",)),
    "pc-darts: partial channels": dict(methods=("darts", "pc-darts"), channels=3),
    "channels=0": dict(methods=("darts",), channels=0),
    "steps=0": dict(methods=("darts",), steps=0),
    "darts: budget 'soon' is not a length": dict(methods=("darts",), steps=None, budget="soon"),
    "there is no table at": dict(methods=("darts",), table=Path("nowhere.parquet")),
    "give their Parquet file as --table FILE or in OCHE_NB201": dict(methods=("darts",), table=None),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_compared_is_refused(table, tmp_path, monkeypatch, says):
    monkeypatch.delenv("OCHE_NB201", raising=False)
    with pytest.raises(OcheError) as refusal:
        comparison_run.run_comparison(replace(setting(table, tmp_path / "new"), **REFUSED[says]), Log(quiet=True))
    assert says in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (dict(steps=5, budget="3m"), "contradict each other"),
        (dict(jobs=0), "jobs=0 is too few"),
        (dict(seeds=(1, 1)), "seeds 1 1: give at least one, and none of them twice"),
        (dict(methods=()), r"methods \(\): give at least one"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields, says):
    with pytest.raises(OcheError, match=says):
        ComparisonConfig(**fields)


def test_runs_of_another_setting_are_not_mixed(table, tmp_path):
    put(tmp_path, "darts", 0, 50)
    asked = setting(table, tmp_path, methods=("darts",))
    assert comparison_run.run_comparison(asked, Log(quiet=True)) == 0
    with pytest.raises(OcheError, match="holds runs of another setting: channels=2, not 4; use that setting"):
        comparison_run.run_comparison(replace(asked, channels=4), Log(quiet=True))


def test_the_table_may_be_named_in_the_environment(table, tmp_path, monkeypatch):
    put(tmp_path, "darts", 0, 60)
    monkeypatch.setenv("OCHE_NB201", str(table))
    assert (
        comparison_run.run_comparison(
            replace(setting(table, tmp_path, methods=("darts",)), table=None), Log(quiet=True)
        )
        == 0
    )
    assert "60.00" in (tmp_path / "table.md").read_text()


def test_the_script_asks_for_the_comparison_of_two_cores(monkeypatch):
    asked = []
    monkeypatch.setattr(comparison_run, "run_comparison", lambda setting, log: asked.append(setting) or 0)
    monkeypatch.setattr(sys, "argv", ["compare_nb201.py", "--data", "x.parquet", "--table", "t", "--seeds", "7"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "benchmarks/compare_nb201.py"), run_name="__main__")
    assert end.value.code == 0
    wanted = dict(data="x.parquet", table=Path("t"), steps=400, batch=64, channels=4, cells=1, limit=5000, seeds=(7,))
    assert asked == [CompareArgs(**wanted)]
