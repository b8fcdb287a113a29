"""A child process is asked to stop or killed, and its use of the machine adds up."""

from __future__ import annotations

import json
import signal
import sys
import time

import oche
from comparisons import TRAPS
from oche.study.processes import oche_process
from oche.study.processes.oche_process import OcheProcess


def test_a_child_is_asked_or_killed_and_its_use_adds_up(tmp_path, monkeypatch):
    monkeypatch.setattr(oche_process, "_OCHE", (sys.executable, "-c", TRAPS))
    log, usage = tmp_path / "log", tmp_path / "usage.json"

    def child(seconds: str) -> OcheProcess:
        log.unlink(missing_ok=True)
        child = OcheProcess([seconds], log, usage)
        while "ready" not in log.read_text():
            time.sleep(0.01)
        return child

    def wait(child: OcheProcess) -> dict:
        while not child.has_ended():
            time.sleep(0.01)
        return json.loads(usage.read_text())

    first = child("60")
    assert not first.has_ended()
    first.request_stop()
    first.request_stop()
    one = wait(first)
    assert one["exit"] == 130 and log.read_text() == "oche 60\nready\nsaved\n"
    two = wait(child("0"))
    assert two["exit"] == 0 and two["wall_s"] > one["wall_s"] and two["cpu_s"] > one["cpu_s"] and two["peak_mb"] > 1
    third = child("60")
    third.kill()
    assert json.loads(usage.read_text())["exit"] == -signal.SIGKILL


def test_the_child_is_the_program(tmp_path):
    child = OcheProcess(["--version"], tmp_path / "log", tmp_path / "usage.json")
    while not child.has_ended():
        time.sleep(0.01)
    assert child.exit_code == 0 and (tmp_path / "log").read_text() == f"oche --version\n{oche.__version__}\n"
