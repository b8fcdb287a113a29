"""Time forms of the same work in turns, each in a process of its own.

Turns let all forms see the machine in the same state; a process of its own gives each form its own peak memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from oche.bench.settings import FORMS, BenchConfig
from oche.bench.steps import steps_of
from oche.core.errors import OcheError
from oche.core.memory import out_of_memory, peak_memory
from oche.devices.engine import Engine

Row = dict[str, Any]


@dataclass
class Result:
    """The measurements of a form.

    times     seconds of single steps
    memory    peak in bytes, without that of the libraries; None if it is unknown
    note      the reason why there are no measurements
    failed    whether that reason is an error of the program or a lack of memory
    profile   rows of `profile_step`
    """

    times: list[float] = field(default_factory=list)
    memory: int | None = None
    note: str = ""
    failed: bool = False
    profile: list[Row] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        return statistics.median(self.times) if self.times else None


def measure_forms(
    setting: BenchConfig,
    work: str,
    forms: tuple[str, ...],
    *,
    profile: bool = False,
    say: Callable[[str], None] = lambda s: None,
) -> dict[str, Result]:
    """Time ``work`` in ``forms``, in turns; with ``profile``, profile one more step of each."""
    results = {form: Result() for form in forms}
    with _start_processes(setting, work, forms) as processes:
        for form in forms:  # one after the other, so that compiling disturbs no other form
            processes[form].request(results[form], "ready", None)
        for i in range(setting.rounds):
            say(f"{work}: round {i + 1} of {setting.rounds}")
            for form in (*forms[i % len(forms) :], *forms[: i % len(forms)]):  # a different form is first in each round
                if not results[form].note:
                    processes[form].request(results[form], "turn", setting.steps)
        for form in forms:
            if profile and not results[form].note:
                processes[form].request(results[form], "profile", None)
    return results


@contextmanager
def _start_processes(setting: BenchConfig, work: str, forms: tuple[str, ...]) -> Iterator[dict[str, FormProcess]]:
    started: dict[str, FormProcess] = {}
    try:
        for form in forms:
            started[form] = FormProcess(setting, work, form)
        yield started
    finally:
        for process in started.values():
            process.end()


class FormProcess:
    """The parent's end of the child process of one form."""

    def __init__(self, setting: BenchConfig, work: str, form: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, setting, work, form), daemon=True)
        self.process.start()
        theirs.close()

    def request(self, result: Result, what: str, value: Any) -> None:
        """Make the child call the method ``what`` of its `Worker`, and add the answer to ``result``."""
        try:
            self.pipe.send((what, value))
            answer: dict[str, Any] = self.pipe.recv()
        except (EOFError, OSError):  # a system without memory kills processes without a message
            self.process.join()
            ended = f"the process was ended ({self.process.exitcode}); too little memory for all --forms at once?"
            answer = {"note": ended, "failed": True}
        result.times += answer.pop("times", [])
        for name, found in answer.items():
            setattr(result, name, found)

    def end(self) -> None:
        self.pipe.close()  # the child then ends
        self.process.join(timeout=10)
        self.process.kill()


# --- the child --------------------------------------------------------------------------------------------------------


def exit_with_parent() -> None:
    """End this process when its parent has ended, even in the middle of a step, which may take minutes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def serve(pipe: Connection, setting: BenchConfig, work: str, form: str) -> None:
    """Answer the requests from ``pipe`` until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    threading.Thread(target=exit_with_parent, daemon=True).start()
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # the code under test may print, and that is no output of oche bench
    worker: Worker | None = None
    while True:
        try:
            what, value = pipe.recv()
        except EOFError:
            return
        try:
            if worker is None:
                worker = Worker(setting, work, form)
            pipe.send(getattr(worker, what)(value))
        except OcheError as error:
            pipe.send({"note": str(error)})
        except Exception as error:
            if not out_of_memory(error):
                traceback.print_exc()
            text = "out of memory" if out_of_memory(error) else f"{type(error).__name__}: {error}".splitlines()[0]
            pipe.send({"note": text, "failed": True})


class Worker:
    """Runs and times the steps in the child process. Every method returns fields of `Result`."""

    def __init__(self, setting: BenchConfig, work: str, form: str) -> None:
        self.engine = Engine(setting.device, setting.threads)
        self.device = self.engine.device
        if setting.threads:
            torch.set_num_threads(setting.threads)
        _load_libraries()
        self.base_memory = peak_memory(str(self.device))
        self.step = steps_of(setting, work, form)
        # The first steps choose kernels and create the optimisers' state; a CUDA graph is recorded in the fourth.
        self.warmup = 5 if form in FORMS and FORMS[form].graph else 1

    def ready(self, value: None) -> dict[str, Any]:
        for _ in range(self.warmup):
            self._timed()
        return {}

    def turn(self, steps: int) -> dict[str, Any]:
        if self.device.type == "cuda":
            self._timed()  # an idle GPU lowers its clock
        times = [self._timed() for _ in range(steps)]
        if not self.step.sound():
            raise ArithmeticError("a loss was no number")
        most = peak_memory(str(self.device))
        return {"times": times, "memory": None if most is None or self.base_memory is None else most - self.base_memory}

    def profile(self, value: None) -> dict[str, Any]:
        return {"profile": profile_step(self.step, self.device)}

    def _timed(self) -> float:
        """Seconds of one complete step."""
        began = time.perf_counter()
        self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _load_libraries() -> None:
    """Make the libraries take the memory that they take once, so that no form is charged for it."""
    x = torch.zeros(2, 3, 8, 8)
    torch.nn.Conv2d(3, 3, 3)(x).sum().backward()


# --- profile ------------------------------------------------------------------------------------------------------------

MAX_ROWS = 30  # the last row sums up all others


def profile_step(step: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """Return where the time of one step goes, a row for each kernel (on a GPU) or operation (on a CPU), longest first.

    A row has ``name``, ``ms`` (without the operations that it calls), ``share`` and ``calls``.
    """
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as made:
        step()
        if gpu:
            torch.cuda.synchronize(device)
    rows = [
        {"name": e.key, "ms": (e.self_device_time_total if gpu else e.self_cpu_time_total) / 1000, "calls": e.count}
        for e in made.key_averages()
    ]
    whole = sum(row["ms"] for row in rows) or 1.0
    rows = sorted(({**row, "share": row["ms"] / whole} for row in rows if row["ms"] > 0), key=lambda row: -row["ms"])
    rest = {"name": "all others", **{key: sum(row[key] for row in rows[MAX_ROWS:]) for key in ("ms", "calls", "share")}}
    return [*rows[:MAX_ROWS], *([rest] if rows[MAX_ROWS:] else [])]
