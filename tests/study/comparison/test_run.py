"""Comparisons: what is asked of each search, what is kept and gone on with, the table, its rows and the picture."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oche.cli import main as cli
from oche.cli.search import SearchArgs
from oche.cli.study import CompareArgs
from oche.core.config.command_line import parse as parse_words
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS, parse
from oche.methods.published import METHODS
from oche.report.plots.nasbench201 import accuracy_by_method
from oche.runs.directory import RunDir
from oche.spaces import SPACES
from oche.spaces.nasbench201_ground_truth import PublishedAccuracy, load_ground_truth
from oche.study.comparison import run as compare
from oche.study.comparison import table as standings
from oche.study.comparison.settings import DEFAULT_METHODS, ComparisonConfig
from oche.study.processes import oche_process as child_module
from oche.study.processes import scheduler as pool
from oche.study.processes.oche_process import OcheProcess
from paths import ROOT

CONVS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SKIPS = "|skip_connect~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|"


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A table in which all cells reach 50 %, and the one of 3 × 3 convolutions 60 %."""
    archs = ["|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*row) for row in itertools.product(OPERATIONS, repeat=6)]
    path = tmp_path_factory.mktemp("table") / "made.parquet"
    values = [60.0 if arch.count("nor_conv_3x3") == 6 else 50.0 for arch in archs]
    pq.write_table(pa.table({"arch": archs, "cifar10_test_200ep": values}), path)
    return path


@pytest.fixture(scope="module")
def known(table):
    return load_ground_truth(table, "cifar10")


def setting(table: Path, out: Path, **fields) -> ComparisonConfig:
    fixed = dict(data="digits", table=table, out=out, seeds=(0,), steps=40, channels=2, limit=60, batch=8, tried=5)
    return ComparisonConfig(**{**fixed, "device": "cpu", **fields})


def put(
    out: Path, method: str, seed: int, accuracy: float, arch: str = CONVS, usage: dict | None = None, **more
) -> None:
    """A finished run as a search leaves it."""
    with RunDir.create(out / f"{method}-{seed}", "", "search") as run:
        run.write_text("genotype.txt", str(parse(arch)) + "\n")
        run.write_json(
            "environment.json", {"time": "2026-11-25T00:21", "commit": None, "torch": "2.13.0", "cpu": "chip"}
        )
        found = {
            "true_acc": accuracy / 100,
            "regret": (60 - accuracy) / 100,
            "steps": 40,
            "step_ms": 20.0,
            "seconds": 0.8,
        }
        run.write_json("summary.json", {**found, **more})
        run.set_state("complete")
    if usage is not None:
        (out / f"{method}-{seed}.json").write_text(json.dumps(usage))


def cells_of(text: str, method: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- what is asked of a search


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
        assert getattr(given.search.select, name) == value
    assert given.search.select.asks == METHODS[method].make().select.asks


def test_options_are_those_of_the_setting_and_have_defaults():
    given = parse_words(CompareArgs, ["--methods", "darts", "gdas", "--seeds", "3", "4"], prog="x", description="")
    assert (given.methods, given.seeds, given.length, given.quiet) == (
        ("darts", "gdas"),
        (3, 4),
        ("budget", "3m"),
        False,
    )
    assert given.kept == ComparisonConfig(methods=("gdas",), out=Path("elsewhere"), jobs=2, table=Path("t")).kept
    assert set(DEFAULT_METHODS) <= set(METHODS)


def test_a_run_that_was_begun_goes_on(table, tmp_path):
    asked = setting(table, tmp_path, methods=("darts",))
    RunDir.create(tmp_path / "darts-0", "", "search").close()
    assert asked.words(asked.trials[0]) == ["resume", str(tmp_path / "darts-0"), "--quiet"]


def test_the_keys_of_setting_json_stay_as_they_are(tmp_path):
    """A comparison of before these names are changed could not be gone on with."""
    asked = ComparisonConfig(data="/data/cifar10.parquet", steps=400, batch=64)
    assert json.dumps(asked.kept) == (
        '{"data": "/data/cifar10.parquet", "steps": 400, "budget": null, "channels": 4, "cells": 1, "limit": 5000, '
        '"batch": 64, "tried": 200, "threads": 1, "device": "auto"}'
    )


# --- runs


def oche_compare(asked: ComparisonConfig) -> list[str]:
    """The command that asks for ``asked``."""
    pairs = {**asked.kept, "out": asked.out, "table": asked.table, "jobs": asked.jobs}
    words = [w for name, value in pairs.items() if value is not None for w in (f"--{name}", str(value))]
    return ["compare", *words, "--methods", *asked.methods, "--seeds", *map(str, asked.seeds)]


def test_ctrl_c_saves_and_the_same_command_goes_on(table, tmp_path, monkeypatch):
    asked = setting(table, tmp_path / "out", methods=("gdas",), steps=150)
    words = [sys.executable, "-m", "oche", *oche_compare(asked)]
    # a session of its own stands for the terminal, whose Ctrl-C reaches all that runs in the foreground
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics, end = asked.out / "gdas-0/metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on" in err and "Traceback" not in err
    assert "gdas-0: not finished" in out
    assert json.loads((asked.out / "gdas-0/status.json").read_text())["state"] == "interrupted"
    before = json.loads((asked.out / "gdas-0.json").read_text())
    assert before["exit"] == 130 and before["peak_mb"] > 50 and before["wall_s"] > 1

    assert cli.main(oche_compare(asked)) == 0
    after = json.loads((asked.out / "gdas-0.json").read_text())
    assert after["exit"] == 0 and after["cpu_s"] > before["cpu_s"] + 0.5
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps[-1] == 150 and steps == sorted({*steps})
    text = (asked.out / "table.md").read_text()
    assert cells_of(text, "gdas")[1] in ("50.00", "60.00") and "Not there" not in text
    log = (asked.out / "gdas-0.log").read_text()
    assert log.startswith("oche search --method gdas") and "\noche resume " in log

    monkeypatch.setattr(compare, "Child", None)  # nothing is started again
    assert cli.main([*oche_compare(asked), "--quiet"]) == 0


def test_a_comparison_that_is_killed_loses_nothing_and_goes_on(table, tmp_path):
    asked = setting(table, tmp_path / "out", methods=("gdas",), steps=150)
    process = subprocess.Popen([sys.executable, "-m", "oche", *oche_compare(asked)], stdout=subprocess.DEVNULL)
    metrics, end = asked.out / "gdas-0/metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert cli.main([*oche_compare(asked), "--quiet"]) == 0  # at once, while the search may still be saving
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps[-1] == 150 and steps == sorted({*steps})
    log = (asked.out / "gdas-0.log").read_text()
    assert "stopped; everything is saved" in log and log.count("\noche resume ") == 1


TRAPS = """
import signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
"""


def test_a_child_is_asked_or_killed_and_its_use_adds_up(tmp_path, monkeypatch):
    monkeypatch.setattr(child_module, "_OCHE", (sys.executable, "-c", TRAPS))
    log, usage = tmp_path / "log", tmp_path / "usage.json"

    def child(seconds: str) -> OcheProcess:
        log.unlink(missing_ok=True)
        child = OcheProcess([seconds], log, usage)
        while "ready" not in log.read_text():
            time.sleep(0.01)
        return child

    def wait(child: OcheProcess) -> dict:
        while not child.ended():
            time.sleep(0.01)
        return json.loads(usage.read_text())

    first = child("60")
    assert not first.ended()
    first.ask()
    first.ask()
    one = wait(first)
    assert one["exit"] == 130 and log.read_text() == "oche 60\nready\nsaved\n"
    two = wait(child("0"))
    assert two["exit"] == 0 and two["wall_s"] > one["wall_s"] and two["cpu_s"] > one["cpu_s"] and two["peak_mb"] > 1
    third = child("60")
    third.kill()
    assert json.loads(usage.read_text())["exit"] == -signal.SIGKILL


@pytest.fixture
def children(monkeypatch) -> list[OcheProcess]:
    """The children that a comparison starts; they do nothing but wait for a minute, or to be asked to stop."""
    started: list[OcheProcess] = []

    def start(words, *rest):
        started.append(OcheProcess(["60"], *rest))
        while "ready" not in rest[0].read_text():
            time.sleep(0.01)
        return started[-1]

    monkeypatch.setattr(child_module, "_OCHE", (sys.executable, "-c", TRAPS))
    monkeypatch.setattr(compare, "Child", start)
    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_those_under_way_are_asked_to_save_and_no_others_begin(table, tmp_path, monkeypatch, children, number):
    sent, wait = [], time.sleep
    clock = SimpleNamespace(sleep=lambda s: wait(s) if sent else sent.append(os.kill(os.getpid(), number)))
    monkeypatch.setattr(pool, "time", clock)
    asked = setting(table, tmp_path / "out", methods=("darts", "gdas", "snas"), jobs=2)
    assert compare.run_comparison(asked, Log(quiet=True)) == 130
    assert len(children) == 2
    assert [(asked.out / f"{m}-0.log").exists() for m in asked.methods] == [True, True, False]
    assert all((asked.out / f"{m}-0.log").read_text().endswith("saved\n") for m in asked.methods[:2])
    assert "- snas, seed 0: not run" in (asked.out / "table.md").read_text()


def test_a_second_ctrl_c_leaves_no_process_behind(table, tmp_path, monkeypatch, children):
    def twice(seconds):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(pool, "time", SimpleNamespace(sleep=twice))
    with pytest.raises(KeyboardInterrupt):
        compare.run_comparison(setting(table, tmp_path / "out", methods=("darts", "gdas"), jobs=2), Log(quiet=True))
    assert len(children) == 2
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child._process.pid, 0)


# --- what is written


def test_the_table_holds_means_and_deviations(table, tmp_path, known):
    put(tmp_path, "darts", 0, 50, SKIPS, {"peak_mb": 600.4, "wall_s": 3, "cpu_s": 10, "exit": 0}, val_acc=0.25)
    put(tmp_path, "darts", 1, 60, CONVS, {"peak_mb": 612.0, "wall_s": 3, "cpu_s": 15, "exit": 0}, step_ms=30.0)
    put(tmp_path, "gdas", 0, 58)  # its comparison was killed before it wrote what the process used
    asked = setting(table, tmp_path, methods=("darts", "gdas", "snas"), seeds=(0, 1))
    standings.write_table(asked, known)
    text = (tmp_path / "table.md").read_text()
    assert cells_of(text, "darts")[1:] == [
        "55.00 ± 7.07", "–", "5.00 ± 7.07", "50.00", "2", "25 ± 7", "40", "612", "12", "0.25", "54.30 ± 0.00 (2001.00326)",
    ]  # fmt: skip
    assert cells_of(text, "gdas")[1:10] == ["58.00", "–", "2.00", "58.00", "1", "20", "40", "–", "–"]
    assert cells_of(text, "a random cell, the mean of all")[1:6] == ["50.00 ± 0.08", "–", "10.00", "50.00", "15,625"]
    assert text.index("| gdas |") < text.index("| darts |")  # the better first
    assert "These groups cannot be compared: 1 seed in common; a comparison takes 3 or more." in text
    assert "- gdas, seed 1: not run" in text and "- snas, seeds 0, 1: not run" in text
    assert "2026-11-25, commit unknown, torch 2.13.0, chip, 1 threads a run, 1 at a time." in text

    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(r["method"], r["seed"], r["state"]) for r in rows] == [
        (m, s, "complete" if (m, s) in {("darts", "0"), ("darts", "1"), ("gdas", "0")} else "not run")
        for s in "01"
        for m in ("darts", "gdas", "snas")
    ]
    assert (rows[0]["true_acc"], rows[0]["arch"], rows[0]["skip_share"]) == ("0.5", SKIPS, "0.5")
    assert (rows[0]["val_acc"], rows[3]["val_acc"], rows[1]["peak_mb"], rows[2]["true_acc"]) == ("0.25", "", "", "")


def test_intervals_and_differences_are_told_where_seeds_suffice(table, tmp_path, known):
    for seed in range(6):
        put(tmp_path, "darts", seed, 50 + seed % 2)
        put(tmp_path, "gdas", seed, 58 + seed % 3)
    standings.write_table(setting(table, tmp_path, methods=("darts", "gdas"), seeds=tuple(range(6))), known)
    text = (tmp_path / "table.md").read_text()
    low, high = map(float, cells_of(text, "gdas")[2].split(" to "))
    assert 58 <= low < 59 < high <= 60
    assert "Significant at 5 % (1 comparison, up to 6 seeds each, Holm's correction): gdas is better than darts." in text
    assert "No mean ranks: ranks of 2 groups over 6 common blocks: it takes 3 groups and 3 blocks." in text


def test_why_a_run_is_missing_is_said_in_its_own_words(table, tmp_path, known):
    asked = setting(table, tmp_path, methods=("darts", "gdas", "snas"))
    with RunDir.create(tmp_path / "darts-0", "", "search") as run:
        run.set_state("failed")
    (tmp_path / "darts-0.log").write_text("oche search …\noche: the loss became nan\n")
    (tmp_path / "darts-0.json").write_text(json.dumps({"exit": 1, "peak_mb": 1, "wall_s": 1}))
    with RunDir.create(tmp_path / "snas-0", "", "search") as run:
        run.set_state("interrupted")
    standings.write_table(asked, known)
    text = (tmp_path / "table.md").read_text()
    assert "- darts, seed 0: oche: the loss became nan\n- gdas, seed 0: not run\n- snas, seed 0: not finished\n" in text
    standings.draw_picture(asked, known)
    assert not (tmp_path / "compare.svg").exists()  # nothing to show


def test_published_values_stand_beside_the_column_they_belong_to():
    stated = PublishedAccuracy("2001.00326", (93.61, 0.09), (70.70, 0.30), (41.71, 0.98))
    assert stated.on("cifar100_test_200ep") == (70.70, 0.30) and stated.on("imagenet16_test_200ep") == (41.71, 0.98)
    assert stated.on("cifar10_valid_12ep") == () == PublishedAccuracy("x", (1.0,)).on("cifar100_test_200ep")
    assert standings._published("gdas", "cifar10_test_200ep") == "93.61 ± 0.09 (2001.00326)"
    assert standings._published("i-darts", "cifar10_test_200ep") == "–"


def test_published_values_are_those_of_the_documentation():
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `")]
    stated = {name: row[2].strip() for row in rows for name in re.findall(r"`([\w-]+)`", row[0])}
    for name, entry in METHODS.items():
        if (p := entry.published) is not None:
            means = [f"{values[0]:.2f}" for values in (p.cifar10, p.cifar100, p.imagenet16) if values]
            assert stated[name] == " / ".join(means), name


def test_the_picture_has_every_run_and_sorts_by_the_mean(table, tmp_path, known):
    figure = accuracy_by_method({"a": [50.0, 60.0], "b": [58.0], "c": [40.0]}, 60.0, 50.0, {"b": 59.0})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "b"]
    drawn = {(line.get_marker(), tuple(line.get_xdata()), line.get_ydata()[0]) for line in axes.lines[:7]}
    assert drawn == {
        ("o", (40.0,), 0), ("|", (40.0,), 0), ("o", (50.0, 60.0), 1), ("|", (55.0,), 1), ("o", (58.0,), 2), ("|", (58.0,), 2),
        ("D", (59.0,), 2),
    }  # fmt: skip
    assert [line.get_xdata()[0] for line in axes.lines[7:]] == [60.0, 50.0]  # the best cell, the mean of all
    left, middle, right = axes.transData.transform([(40, 0), (59, 0), (60, 0)])[:, 0]
    assert 0 < middle - left < 8 * (right - middle)  # 19 points and 1: distances near the best are stretched

    put(tmp_path, "darts", 0, 50)
    put(tmp_path, "gdas", 0, 60)
    standings.draw_picture(setting(table, tmp_path, methods=("darts", "gdas", "snas")), known)
    text = (tmp_path / "compare.svg").read_text()
    assert (
        all(word in text for word in (">darts<", ">gdas<", "the best cell: 60.00", "published"))
        and ">snas<" not in text
    )


def test_the_page_of_its_runs_is_made_at_the_end_and_named(table, tmp_path, capsys):
    for i, method in enumerate(("darts", "gdas")):
        put(tmp_path, method, 0, 50 + 10 * i)
    asked = setting(table, tmp_path, methods=("darts", "gdas"))
    assert compare.run_comparison(asked, Log()) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text()
    assert "2 runs in 1 group;" in text and "60.00\u00a0%" in text and 'data-name="runs"' in text
    assert cli.main(["report", str(tmp_path)]) == 0 and (tmp_path / "report.html").read_text() == text


def test_of_a_single_run_there_is_no_page(table, tmp_path, capsys):
    put(tmp_path, "darts", 0, 50)
    assert compare.run_comparison(setting(table, tmp_path, methods=("darts",)), Log()) == 0
    assert "report:" not in capsys.readouterr().out and not (tmp_path / "report.html").exists()


# --- refusals: one line, before anything is made

REFUSED = {
    "unknown method 'dartz'; did you mean 'darts'?": dict(methods=("dartz",)),
    "pc-darts: partial channels": dict(methods=("darts", "pc-darts"), channels=3),
    "channels=0": dict(methods=("darts",), channels=0),
    "steps=0": dict(methods=("darts",), steps=0),
    "darts: budget 'soon' is no length": dict(methods=("darts",), steps=None, budget="soon"),
    "there is no table at": dict(methods=("darts",), table=Path("nowhere.parquet")),
    "give their Parquet file as --table FILE or in OCHE_NB201": dict(methods=("darts",), table=None),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_cannot_be_compared_is_refused(table, tmp_path, monkeypatch, says):
    monkeypatch.delenv("OCHE_NB201", raising=False)
    with pytest.raises(OcheError) as refusal:
        compare.run_comparison(replace(setting(table, tmp_path / "new"), **REFUSED[says]), Log(quiet=True))
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
    assert compare.run_comparison(asked, Log(quiet=True)) == 0
    with pytest.raises(OcheError, match="holds runs of another setting: channels=2, not 4; give that setting"):
        compare.run_comparison(replace(asked, channels=4), Log(quiet=True))


def test_the_table_may_be_named_in_the_environment(table, tmp_path, monkeypatch):
    put(tmp_path, "darts", 0, 60)
    monkeypatch.setenv("OCHE_NB201", str(table))
    assert (
        compare.run_comparison(replace(setting(table, tmp_path, methods=("darts",)), table=None), Log(quiet=True)) == 0
    )
    assert "60.00" in (tmp_path / "table.md").read_text()


def test_the_script_asks_for_the_comparison_of_two_cores(monkeypatch):
    asked = []
    monkeypatch.setattr(compare, "run", lambda setting, log: asked.append(setting) or 0)
    monkeypatch.setattr(sys, "argv", ["compare_nb201.py", "--data", "x.parquet", "--table", "t", "--seeds", "7"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "benchmarks/compare_nb201.py"), run_name="__main__")
    assert end.value.code == 0
    wanted = dict(data="x.parquet", table=Path("t"), steps=400, batch=64, channels=4, cells=1, limit=5000, seeds=(7,))
    assert asked == [CompareArgs(**wanted)]


def test_spread():
    assert standings.spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert standings.spread([5.0]) == "5.00" and standings.spread([]) == "–"
