"""Comparisons: what is asked of each search, what is kept and gone on with, the table, its rows and the picture."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from comparisons import TRAPS, cells_of, put, setting
from forked_oche import Oche
from oche.cli import main as cli
from oche.core.console import Log
from oche.study.comparison import run as comparison_run
from oche.study.comparison.settings import ComparisonConfig
from oche.study.processes import oche_process, scheduler
from oche.study.processes.oche_process import OcheProcess

pytestmark = pytest.mark.slow  # processes

# --- runs


def oche_compare(asked: ComparisonConfig) -> list[str]:
    """The command that asks for ``asked``."""
    pairs = {**asked.shared, "out": asked.out, "table": asked.table, "jobs": asked.jobs}
    words = [w for name, value in pairs.items() if value is not None for w in (f"--{name}", str(value))]
    return ["compare", *words, "--methods", *asked.methods, "--seeds", *map(str, asked.seeds)]


def test_ctrl_c_saves_and_the_same_command_goes_on(table, tmp_path, monkeypatch):
    asked = setting(table, tmp_path / "out", methods=("gdas",), steps=60)
    began = time.monotonic()
    # a session of its own stands for the terminal, whose Ctrl-C reaches all that runs in the foreground
    process = Oche(*oche_compare(asked), said=tmp_path / "said", new_session=True)
    metrics, end = asked.out / "gdas-0/metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command continues" in err and "Traceback" not in err
    assert "gdas-0: not finished" in out
    assert json.loads((asked.out / "gdas-0/status.json").read_text())["state"] == "interrupted"
    before = json.loads((asked.out / "gdas-0.json").read_text())
    assert before["exit"] == 130 and before["peak_mb"] > 50 and 0 < before["wall_s"] < time.monotonic() - began

    again = Oche(*oche_compare(asked), said=tmp_path / "again")
    assert again.wait() == 0
    after = json.loads((asked.out / "gdas-0.json").read_text())
    assert after["exit"] == 0 and after["cpu_s"] > before["cpu_s"] and after["wall_s"] > before["wall_s"]
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps[-1] == 60 and steps == sorted({*steps})
    text = (asked.out / "table.md").read_text()
    assert cells_of(text, "gdas")[1] in ("50.00", "60.00") and "Not there" not in text
    log = (asked.out / "gdas-0.log").read_text()
    assert log.startswith("oche search --method gdas") and "\noche resume " in log

    monkeypatch.setattr(comparison_run, "OcheProcess", None)  # nothing is started again
    assert cli.main([*oche_compare(asked), "--quiet"]) == 0


def test_a_comparison_that_is_killed_loses_nothing_and_goes_on(table, tmp_path):
    asked = setting(table, tmp_path / "out", methods=("gdas",), steps=60)
    process = Oche(*oche_compare(asked), said=tmp_path / "said")
    metrics, end = asked.out / "gdas-0/metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    again = Oche(*oche_compare(asked), "--quiet", said=tmp_path / "again")
    assert again.wait() == 0  # at once, while the search may still be saving
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps[-1] == 60 and steps == sorted({*steps})
    log = (asked.out / "gdas-0.log").read_text()
    assert "stopped; everything is saved" in log and log.count("\noche resume ") == 1


@pytest.fixture
def children(monkeypatch) -> list[OcheProcess]:
    """The children that a comparison starts; they do nothing but wait for a minute, or to be asked to stop."""
    started: list[OcheProcess] = []

    def start(words, *rest):
        started.append(OcheProcess(["60"], *rest))
        while "ready" not in rest[0].read_text():
            time.sleep(0.01)
        return started[-1]

    monkeypatch.setattr(oche_process, "_OCHE", (sys.executable, "-c", TRAPS))
    monkeypatch.setattr(comparison_run, "OcheProcess", start)
    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_those_under_way_are_asked_to_save_and_no_others_begin(table, tmp_path, monkeypatch, children, number):
    sent, wait = [], time.sleep
    clock = SimpleNamespace(sleep=lambda s: wait(s) if sent else sent.append(os.kill(os.getpid(), number)))
    monkeypatch.setattr(scheduler, "time", clock)
    asked = setting(table, tmp_path / "out", methods=("darts", "gdas", "snas"), jobs=2)
    assert comparison_run.run_comparison(asked, Log(quiet=True)) == 130
    assert len(children) == 2
    assert [(asked.out / f"{m}-0.log").exists() for m in asked.methods] == [True, True, False]
    assert all((asked.out / f"{m}-0.log").read_text().endswith("saved\n") for m in asked.methods[:2])
    assert "- snas, seed 0: not run" in (asked.out / "table.md").read_text()


def test_a_second_ctrl_c_leaves_no_process_behind(table, tmp_path, monkeypatch, children):
    def twice(seconds):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(scheduler, "time", SimpleNamespace(sleep=twice))
    with pytest.raises(KeyboardInterrupt):
        comparison_run.run_comparison(
            setting(table, tmp_path / "out", methods=("darts", "gdas"), jobs=2), Log(quiet=True)
        )
    assert len(children) == 2
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child._process.pid, 0)


def test_the_page_of_its_runs_is_made_at_the_end_and_named(table, tmp_path, capsys):
    for i, method in enumerate(("darts", "gdas")):
        put(tmp_path, method, 0, 50 + 10 * i)
    asked = setting(table, tmp_path, methods=("darts", "gdas"))
    assert comparison_run.run_comparison(asked, Log()) == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text()
    assert "2 runs in 1 group;" in text and "60.00\u00a0%" in text and 'data-name="runs"' in text
    assert cli.main(["report", str(tmp_path)]) == 0 and (tmp_path / "report.html").read_text() == text


def test_of_a_single_run_there_is_no_page(table, tmp_path, capsys):
    put(tmp_path, "darts", 0, 50)
    assert comparison_run.run_comparison(setting(table, tmp_path, methods=("darts",)), Log()) == 0
    assert "report:" not in capsys.readouterr().out and not (tmp_path / "report.html").exists()
