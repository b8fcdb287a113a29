"""Jobs in processes: order, room, crashes, what is at work elsewhere, and the live lines."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oche.core.console import Log
from oche.study.processes import scheduler
from oche.study.processes.resources import ResourcePool
from oche.study.processes.scheduler import Scheduler


@dataclass(eq=False)
class Job:
    name: str
    ends: list[int] = field(default_factory=lambda: [0])  # exit codes of its processes, one after the other
    looks: int = 1  # after how many looks each of them ends
    elsewhere: int = 0  # for how many looks another process is at work on it
    done: bool = False
    log: Path = Path("log")

    def outcome(self) -> bool:
        return self.done

    def is_running(self) -> bool:
        self.elsewhere -= 1
        return self.elsewhere >= 0

    def describe_outcome(self) -> str:
        return "well" if self.done else "crashed"

    def progress_row(self):
        return self.name, 0.5, {}


class Process:
    pid = 0

    def __init__(self, job: Job, events: list[str]) -> None:
        self.job, self.events, self.exit_code, self.left = job, events, None, job.looks
        events.append(f"+{job.name}")

    def has_ended(self) -> bool:
        self.left -= 1
        if self.left > 0:
            return False
        self.exit_code = self.job.ends.pop(0)
        self.job.done = self.exit_code == 0
        self.events.append(f"-{self.job.name}")
        return True

    def request_stop(self) -> None:
        self.events.append(f"?{self.job.name}")

    def kill(self) -> None:
        self.events.append(f"!{self.job.name}")


class Asked:
    asked = False


@pytest.fixture
def work(monkeypatch):
    """Does jobs in so many slots; returns what happened, in order."""
    monkeypatch.setattr(scheduler, "_POLL", 0.0)

    def work(*jobs: Job, slots: int = 1, after=lambda job, process: None, asked=None, events=None) -> list[str]:
        events = [] if events is None else events
        start = lambda job, slot: Process(job, events)  # noqa: E731
        Scheduler(ResourcePool([{}] * slots), Log(quiet=True), asked or Asked(), start, after=after).run(jobs)
        return events

    return work


def test_jobs_run_in_order_as_many_as_there_is_room(work):
    assert work(Job("a"), Job("b")) == ["+a", "-a", "+b", "-b"]
    assert work(Job("a", looks=3), Job("b"), Job("c"), slots=2) == ["+a", "+b", "-b", "+c", "-c", "-a"]


def test_a_crash_is_tried_once_more_after_the_others(work, capsys):
    lost = Job("a", ends=[1, -9, 0])
    assert work(lost, Job("b")) == ["+a", "-a", "+b", "-b", "+a", "-a"] and not lost.done
    assert capsys.readouterr().err == "a: crashed (exit code 1); trying again, see log\n"


@pytest.mark.parametrize("code", [2, 130])
def test_mistakes_and_what_was_asked_to_stop_are_not(work, code):
    assert work(Job("a", ends=[code])) == ["+a", "-a"]


def test_what_another_process_is_at_work_on_waits_and_lets_others_go_first(work):
    assert work(Job("a", elsewhere=2), Job("b")) == ["+b", "-b", "+a", "-a"]
    assert work(Job("a", elsewhere=5)) == ["+a", "-a"]


def test_those_running_are_asked_and_none_begins(work):
    asked = Asked()

    def stop(job, process):
        asked.asked = True

    jobs = Job("a"), Job("b", looks=4, ends=[130]), Job("c")
    assert work(*jobs, slots=2, after=stop, asked=asked) == ["+a", "+b", "-a", "?b", "?b", "?b", "-b"]


def test_no_process_outlives_an_error(work):
    def full(job, process):
        raise OSError("disk full")

    events: list[str] = []
    with pytest.raises(OSError, match="disk full"):
        work(Job("a"), Job("b", looks=9), slots=2, after=full, events=events)
    assert events == ["+a", "+b", "-a", "!b"]


def test_the_live_lines_are_of_all_and_of_those_at_work(monkeypatch):
    job, waiting = Job("a", elsewhere=9), Job("b")
    runner = Scheduler(
        ResourcePool([{}]), Log(quiet=True), Asked(), lambda job, slot: Process(job, []), head=lambda: {"best": "x"}
    )
    runner._running[job] = (Process(job, []), {})
    runner._running[waiting] = (Process(waiting, []), {})  # its process is only starting
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: runner._start_time + 30)
    # 4 of 8 done, 2 under way of which one is half done: 4.5 of 8 in 30 s leaves 23 s
    assert runner._rows(8, 0, 2) == [("4 of 8 runs", 4.5 / 8, {"left": "0:23", "best": "x"}), ("a", 0.5, {})]
    # with 2 of them done by an earlier runner, 2.5 took 30 s and 3.5 are left
    assert runner._rows(8, 2, 2)[0] == ("4 of 8 runs", 4.5 / 8, {"left": "0:42", "best": "x"})
    # and all 4: half a run took 30 s
    assert runner._rows(8, 4, 2)[0][2]["left"] == "3:30"


def test_what_is_done_is_done_once(work, monkeypatch):
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(Scheduler, "_rows", lambda self, count, earlier, waiting: seen.append((count, earlier)) or [])
    monkeypatch.setattr(Log, "lines", lambda self: nullcontext(lambda rows: rows()))
    assert work(Job("a", done=True), Job("b")) == ["+b", "-b"]
    assert {*seen} == {(2, 1)}
