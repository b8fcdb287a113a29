"""The table of a comparison: means, intervals, missing runs, published values."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from comparisons import cells_of, put, setting
from oche.core.console import Log
from oche.methods.catalog import METHODS
from oche.report.format_numbers import format_mean_sd
from oche.report.plots.nasbench201 import accuracy_by_method
from oche.runs.directory import RunDir
from oche.spaces.nasbench201_ground_truth import PublishedAccuracy, load_ground_truth
from oche.study.comparison import table as comparison_table
from paths import ROOT

CONVS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SKIPS = "|skip_connect~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|"


@pytest.fixture(scope="module")
def known(table):
    return load_ground_truth(table, "cifar10")


def test_the_table_holds_means_and_deviations(table, tmp_path, known):
    put(
        tmp_path,
        "darts",
        0,
        50,
        SKIPS,
        {"peak_mb": 600.4, "wall_s": 3, "cpu_s": 10, "exit": 0},
        val_acc=0.25,
        decided_nodes=1,
        nodes=3,
    )
    put(
        tmp_path,
        "darts",
        1,
        60,
        CONVS,
        {"peak_mb": 612.0, "wall_s": 3, "cpu_s": 15, "exit": 0},
        step_ms=30.0,
        decided_nodes=2,
        nodes=3,
    )
    put(tmp_path, "gdas", 0, 58)  # its comparison was killed before it wrote what the process used
    asked = setting(table, tmp_path, methods=("darts", "gdas", "snas"), seeds=(0, 1))
    comparison_table.write_table(asked, known)
    text = (tmp_path / "table.md").read_text()
    assert cells_of(text, "darts")[1:] == [
        "55.00 ± 7.07", "–", "5.00 ± 7.07", "50.00", "2", "0.00022", "25 ± 7", "40", "612", "12", "0.25", "3 of 6",
        "54.30 ± 0.00 (2001.00326)",
    ]  # fmt: skip
    assert cells_of(text, "gdas")[1:11] == ["58.00", "–", "2.00", "58.00", "1", "0.00022", "20", "40", "–", "–"]
    assert cells_of(text, "a random cell, the mean of all")[1:6] == ["50.00 ± 0.08", "–", "10.00", "50.00", "15,625"]
    assert text.index("| gdas |") < text.index("| darts |")  # the better first
    assert "These groups cannot be compared: 1 seed in common; a comparison takes 3 or more." in text
    assert "- gdas, seed 1: not run" in text and "- snas, seeds 0, 1: not run" in text
    assert "2026-11-25, commit unknown, torch 2.13.0, chip, 1 thread a run, 1 at a time." in text

    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(r["method"], r["seed"], r["state"]) for r in rows] == [
        (m, s, "complete" if (m, s) in {("darts", "0"), ("darts", "1"), ("gdas", "0")} else "not run")
        for s in "01"
        for m in ("darts", "gdas", "snas")
    ]
    assert (rows[0]["true_acc"], rows[0]["arch"], rows[0]["skip_share"]) == ("0.5", SKIPS, "0.5")
    assert (rows[0]["val_acc"], rows[3]["val_acc"], rows[1]["peak_mb"], rows[2]["true_acc"]) == ("0.25", "", "", "")


class Wide(Log):
    """A log on a terminal of a given width."""

    def __init__(self, width: int) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        super().__init__(file=Terminal())


@pytest.mark.parametrize(("width", "least"), [(60, 3), (80, 5), (110, 7), (260, 14)])
def test_the_terminal_gets_a_table_that_fits(table, tmp_path, known, monkeypatch, width, least):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    put(tmp_path, "darts", 0, 50, SKIPS, {"peak_mb": 600.4, "wall_s": 3, "cpu_s": 10, "exit": 0})
    put(tmp_path, "gdas", 0, 58)
    log = Wide(width)
    comparison_table.show_table(setting(table, tmp_path, methods=("darts", "gdas"), seeds=(0,)), known, log)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", log.file.getvalue())
    assert max(map(len, text.splitlines())) <= width and "|" not in text and "---" not in text
    row = next(line for line in text.splitlines() if line.startswith("gdas"))
    assert "58.00" in row and len(re.split(r" {2,}", row.strip())) >= least
    assert ("not shown for lack of room: " in text) == (width < 260)
    assert text.index("\ngdas") < text.index("\ndarts")


def test_a_pipe_gets_every_column_on_one_line(table, tmp_path, known, capsys):
    put(tmp_path, "darts", 0, 50, SKIPS, {"peak_mb": 600.4, "wall_s": 3, "cpu_s": 10, "exit": 0})
    asked = setting(table, tmp_path, methods=("darts",), seeds=(0,))
    comparison_table.show_table(asked, known, Log())
    rows = [
        re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith("darts ")
    ]
    assert rows == [comparison_table._cells(asked, known, [t.row() for t in asked.trials])[0]]
    comparison_table.show_table(asked, known, Log(quiet=True))
    assert capsys.readouterr().out == ""


def test_intervals_and_differences_are_told_where_seeds_suffice(table, tmp_path, known):
    for seed in range(6):
        put(tmp_path, "darts", seed, 50 + seed % 2)
        put(tmp_path, "gdas", seed, 58 + seed % 3)
    comparison_table.write_table(setting(table, tmp_path, methods=("darts", "gdas"), seeds=tuple(range(6))), known)
    text = (tmp_path / "table.md").read_text()
    low, high = map(float, cells_of(text, "gdas")[2].split(" to "))
    assert 58 <= low < 59 < high <= 60
    assert (
        "Significant at 5 % (1 comparison, up to 6 seeds each, Holm's correction): gdas is better than darts." in text
    )
    assert "No mean ranks: ranks of 2 groups over 6 common blocks: it takes 3 groups and 3 blocks." in text


def test_why_a_run_is_missing_is_said_in_its_own_words(table, tmp_path, known):
    asked = setting(table, tmp_path, methods=("darts", "gdas", "snas"))
    with RunDir.create(tmp_path / "darts-0", "", "search") as run:
        run.set_state("failed")
    (tmp_path / "darts-0.log").write_text("oche search …\noche: the loss became nan\n")
    (tmp_path / "darts-0.json").write_text(json.dumps({"exit": 1, "peak_mb": 1, "wall_s": 1}))
    with RunDir.create(tmp_path / "snas-0", "", "search") as run:
        run.set_state("interrupted")
    comparison_table.write_table(asked, known)
    text = (tmp_path / "table.md").read_text()
    assert "- darts, seed 0: oche: the loss became nan\n- gdas, seed 0: not run\n- snas, seed 0: not finished\n" in text
    comparison_table.draw_picture(asked, known)
    assert not (tmp_path / "compare.svg").exists()  # nothing to show


def test_published_values_stand_beside_the_column_they_belong_to():
    stated = PublishedAccuracy("2001.00326", (93.61, 0.09), (70.70, 0.30), (41.71, 0.98))
    assert stated.on("cifar100_test_200ep") == (70.70, 0.30) and stated.on("imagenet16_test_200ep") == (41.71, 0.98)
    assert stated.on("cifar10_valid_12ep") == () == PublishedAccuracy("x", (1.0,)).on("cifar100_test_200ep")
    assert comparison_table._published("gdas", "cifar10_test_200ep") == "93.61 ± 0.09 (2001.00326)"
    assert comparison_table._published("i-darts", "cifar10_test_200ep") == "–"


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
    comparison_table.draw_picture(setting(table, tmp_path, methods=("darts", "gdas", "snas")), known)
    text = (tmp_path / "compare.svg").read_text()
    assert all(word in text for word in (">darts<", ">gdas<", "best cell: 60.00", "published")) and ">snas<" not in text


def test_spread():
    assert format_mean_sd([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert format_mean_sd([5.0]) == "5.00" and format_mean_sd([]) == "–"
