"""Forms of one work take turns, each in a process of its own, so that they see the same machine and memory is theirs alone."""

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

from oche.bench.kernels import kernels
from oche.bench.settings import FORMS, BenchConfig
from oche.bench.steps import steps_of
from oche.core.errors import OcheError
from oche.core.memory import out_of_memory, peak_memory
from oche.devices.engine import Engine

Row = dict[str, Any]


@dataclass
class Result:
    """What was measured of a form: ``times`` of single steps in seconds, ``memory`` in bytes on top of the libraries (None:
    unknown). ``note`` says why there is nothing, ``failed`` that this was a mistake of the program or a lack of memory."""

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
    """Times ``work`` in ``forms``, in turns; with ``profile`` a last step tells what it spends its time on."""
    results = {form: Result() for form in forms}
    with _contenders(setting, work, forms) as contenders:
        for form in forms:  # one after the other: what is built or compiled disturbs nobody
            contenders[form].ask(results[form], "ready", None)
        for i in range(setting.rounds):
            say(f"{work}: round {i + 1} of {setting.rounds}")
            for form in (*forms[i % len(forms) :], *forms[: i % len(forms)]):  # nobody is always first
                if not results[form].note:
                    contenders[form].ask(results[form], "turn", setting.steps)
        for form in forms:
            if profile and not results[form].note:
                contenders[form].ask(results[form], "profile", None)
    return results


@contextmanager
def _contenders(setting: BenchConfig, work: str, forms: tuple[str, ...]) -> Iterator[dict[str, FormProcess]]:
    made: dict[str, FormProcess] = {}
    try:
        for form in forms:
            made[form] = FormProcess(setting, work, form)
        yield made
    finally:
        for contender in made.values():
            contender.end()


class FormProcess:
    """The parent's end of a child process."""

    def __init__(self, setting: BenchConfig, work: str, form: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, setting, work, form), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, result: Result, what: str, value: Any) -> None:
        """Has the child do ``what`` and enters what it answers."""
        try:
            self.pipe.send((what, value))
            answer: dict[str, Any] = self.pipe.recv()
        except (EOFError, OSError):  # a system that runs out of memory ends processes without a word
            self.process.join()
            ended = f"the process was ended ({self.process.exitcode}); too little memory for all --forms at once?"
            answer = {"note": ended, "failed": True}
        result.times += answer.pop("times", [])
        for name, found in answer.items():
            setattr(result, name, found)

    def end(self) -> None:
        self.pipe.close()  # the child ends when nobody is there any more
        self.process.join(timeout=10)
        self.process.kill()


# --- the child --------------------------------------------------------------------------------------------------------


def exit_with_parent() -> None:
    """Ends this process when its parent is gone, however that ended: in the middle of a step, which may take minutes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def serve(pipe: Connection, setting: BenchConfig, work: str, form: str) -> None:
    """Answers what is asked through ``pipe`` until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    threading.Thread(target=exit_with_parent, daemon=True).start()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what code under test prints is not our output
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
    """Does the steps and takes the time. Every answer holds fields of `Result`."""

    def __init__(self, setting: BenchConfig, work: str, form: str) -> None:
        self.engine = Engine(setting.device, setting.threads)
        self.device = self.engine.device
        if setting.threads:
            import torch

            torch.set_num_threads(setting.threads)
        _wake()
        self.held = peak_memory(str(self.device))
        self.step = steps_of(setting, work, form)
        # The first steps choose kernels and make the optimisers' state; a graph is recorded in the fourth.
        self.warm = 5 if form in FORMS and FORMS[form].graph else 1

    def ready(self, value: None) -> dict[str, Any]:
        for _ in range(self.warm):
            self._timed()
        return {}

    def turn(self, steps: int) -> dict[str, Any]:
        if self.device.type == "cuda":
            self._timed()  # a GPU slows its clock where it has nothing to do
        times = [self._timed() for _ in range(steps)]
        if not self.step.sound():
            raise ArithmeticError("a loss was no number")
        most = peak_memory(str(self.device))
        return {"times": times, "memory": None if most is None or self.held is None else most - self.held}

    def profile(self, value: None) -> dict[str, Any]:
        return {"profile": kernels(self.step, self.device)}

    def _timed(self) -> float:
        """Seconds of one step, all its work done."""
        began = time.perf_counter()
        self.step()
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _wake() -> None:
    """Has the libraries take the memory that they take once, so that it is not put down to a form."""
    import torch

    x = torch.zeros(2, 3, 8, 8)
    torch.nn.Conv2d(3, 3, 3)(x).sum().backward()
