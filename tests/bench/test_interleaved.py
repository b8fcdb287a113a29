"""Processes take turns, and end with their parent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench_settings import setting
from oche.bench.interleaved import FormProcess, Result, measure_forms, profile_step


class Recorded:
    """Stands for a child process; the third form ends without a word at its second turn."""

    asked: list

    def __init__(self, given, work, form):
        self.form = form

    def request(self, result, what, value):
        Recorded.asked.append((self.form, what))
        if what == "turn" and not (self.form == "native" and len(result.times) == 1):
            result.times.append(len(Recorded.asked))
        elif what == "turn":
            result.note, result.failed = "the process was ended (-9); too little memory?", True

    def end(self):
        Recorded.asked.append((self.form, "end"))


def test_forms_take_turns_and_nobody_is_always_first(monkeypatch):
    Recorded.asked = []
    monkeypatch.setattr("oche.bench.interleaved.FormProcess", Recorded)
    found = measure_forms(setting(rounds=4), "first", ("plain-nchw", "plain", "native"), profile=True)
    turns = [form for form, what in Recorded.asked if what == "turn"]
    a, b, c = "plain-nchw", "plain", "native"
    assert turns == [a, b, c, b, c, a, a, b, a, b]  # c ends in the second round
    assert [form for form, what in Recorded.asked if what == "ready"] == [a, b, c]
    assert [form for form, what in Recorded.asked if what == "profile"] == [a, b]
    assert [form for form, what in Recorded.asked if what == "end"] == [a, b, c]
    assert [len(found[form].times) for form in (a, b, c)] == [4, 4, 1] and found[c].failed


def test_a_process_that_ends_without_a_word_is_a_row():
    class Ended:
        exitcode = -9

        def join(self):
            pass

    import multiprocessing

    contender = FormProcess.__new__(FormProcess)
    contender.pipe, theirs = multiprocessing.Pipe()
    contender.process = Ended()
    theirs.close()
    result = Result()
    contender.request(result, "turn", 1)
    assert result.failed and "(-9); too little memory for all --forms at once?" in result.note and result.times == []


PARENT = """
import multiprocessing, threading, time
from oche.bench.interleaved import exit_with_parent

def child():
    threading.Thread(target=exit_with_parent, daemon=True).start()
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child, daemon=True)
    process.start()
    print(process.pid, flush=True)
    process.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_a_step_under_way_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path("/proc", parent.stdout.readline().strip())
    assert child.is_dir()
    parent.kill()
    parent.wait()
    end = time.monotonic() + 120
    while child.is_dir() and time.monotonic() < end:
        time.sleep(0.05)
    assert not child.is_dir()


@pytest.mark.slow
def test_kernels_of_a_step(monkeypatch):
    a = torch.ones(400, 400)

    def step():
        for _ in range(3):
            a @ a
        a[0].exp()

    rows = profile_step(step, torch.device("cpu"))
    assert {row["name"]: row["calls"] for row in rows}["aten::mm"] == 3
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    monkeypatch.setattr("oche.bench.interleaved.MAX_ROWS", 1)
    first, rest = profile_step(step, torch.device("cpu"))
    assert first["name"] == "aten::mm" and rest["name"] == "all others"
    assert first["share"] + rest["share"] == pytest.approx(1)
