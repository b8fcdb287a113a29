"""The loop of a black-box search: ask, evaluate, write the journal, tell, until the budget is spent.

The state of a strategy follows from its seed and the order of the journal's lines. A search that goes on replays the
journal, checks that the strategy proposes the same again, evaluates what was asked and not answered, and goes on. With one
worker its journal is the one of a search without interruption, up to measured times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from oche.blackbox.base import Ask, Done, Evaluator, Proposals, Report, Strategy
from oche.blackbox.moves import Moves
from oche.core.architecture import Genotype
from oche.core.errors import OcheError, one_line
from oche.strategies.journal import Event, Journal, MemoryJournal
from oche.training.loop import Interrupted

Submit = Callable[[Genotype, float, int], "Future[Report]"]


@dataclass(frozen=True)
class Trial:
    """One query: its number, what was asked, its key, and the report once there is one."""

    number: int
    ask: Ask
    key: str
    report: Report


@dataclass
class Found:
    """The result of a search. ``trials``: in the order of their reports."""

    trials: list[Trial] = field(default_factory=list)
    ended: str = ""
    """why the search ended: queries, budget, exhausted, strategy, interrupted"""
    spent: float = 0.0
    """the sum of all costs, in the evaluator's unit"""
    strategy_seconds: float = 0.0
    """time in which this process decided what to ask, as by fitting models"""

    @property
    def best(self) -> Trial | None:
        """The best trial at full fidelity, the first of equal ones; None if no evaluation succeeded."""
        usable = [t for t in self.trials if t.report.fidelity == 1 and t.report.score > -math.inf]
        return max(usable, key=lambda t: t.report.score, default=None)

    @property
    def failures(self) -> int:
        """The number of evaluations without a result."""
        return sum(t.report.status == "failed" and not t.report.numbers.get("repeat") for t in self.trials)


def drive(
    strategy: Strategy,
    moves: Moves,
    evaluator: Evaluator,
    *,
    seed: int = 0,
    queries: int | None = None,
    budget: float | None = None,
    journal: Journal | None = None,
    submit: Submit | None = None,
    jobs: int = 1,
    stopping: Callable[[], bool] = lambda: False,
    progress: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Search with ``strategy`` until ``queries`` were asked or ``budget`` (in the evaluator's unit) is spent.

    It also ends when the strategy has nothing more to ask, and when every architecture of the space is known. An architecture
    that was evaluated before, at the same fidelity, is answered from memory. It counts as a query and costs nothing.

    ``journal``: where events go, and what was done before. ``submit``: starts the evaluation of (genotype, fidelity, seed)
    elsewhere, ``jobs`` at a time; by default they are evaluated here, one after the other. With several, strategies are told
    in the order in which evaluations end. ``stopping``: whether the user asked to stop.
    ``progress`` is called after each report.

    Raises `OcheError` for a length below 1, and if the journal is not one of these settings.
    """
    if queries is None and budget is None:
        raise OcheError("a search needs a length; give queries or a budget")
    if (queries is not None and queries < 1) or (budget is not None and not budget > 0):
        raise OcheError(f"queries={queries}, budget={budget} evaluate nothing; use 1 or more")
    loop = _Loop(
        strategy.start(moves, seed, queries), moves, evaluator, seed, queries, budget, journal or MemoryJournal()
    )
    loop.replay()
    try:
        loop.run(submit, jobs, stopping, progress)
    except Interrupted:  # within a training, which is done anew when the search goes on
        loop.found.ended = "interrupted"
    return loop.found


class _Loop:
    def __init__(
        self, proposals: Proposals, moves: Moves, evaluator: Evaluator, seed: int, queries: int | None, budget: float | None,
        journal: Journal,
    ) -> None:  # fmt: skip
        self.proposals, self.moves, self.evaluator, self.seed = proposals, moves, evaluator, seed
        self.queries, self.budget, self.journal = queries, budget, journal
        self.found = Found()
        self.asked = 0
        self.open: dict[int, Ask] = {}  # asked and not told, by the number of the trial
        self.known: dict[tuple[str, float], Report] = {}
        self.complete: set[str] = set()  # keys that were evaluated in full

    # --- the journal ----------------------------------------------------------------------------------------------

    def replay(self) -> None:
        """Bring the strategy into the state after the journal's events."""
        for event in self.journal.events:
            if event["event"] == "ask":
                self._replay_ask(event)
            elif event["event"] == "tell":
                self._take(event["trial"], _report(event))

    def _replay_ask(self, event: Event) -> None:
        ask = self._next()
        if ask is None or ask.fidelity != event["fidelity"] or str(ask.genotype) != event["genotype"]:
            raise OcheError(
                f"the strategy does not propose trial {event['trial']} of the journal again; the journal has other settings "
                "or is of another version; start anew with another --out"
            )
        self.open[self.asked] = ask
        self.asked += 1

    def _next(self) -> Ask | None:
        """Ask the strategy; None if it waits. Sets the reason of the end if it has ended."""
        began = time.perf_counter()
        try:
            return self.proposals.ask()
        except Done:
            self.found.ended = "strategy"
            return None
        finally:
            self.found.strategy_seconds += time.perf_counter() - began

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(
        self, submit: Submit | None, jobs: int, stopping: Callable[[], bool], progress: Callable[[Found], None]
    ) -> None:
        running: dict[Future[Report], int] = {}
        for number, ask in sorted(self.open.items()):
            self._evaluate(number, ask, submit, running, progress)
        while True:
            while (submit is None or len(running) < jobs) and not stopping() and (ask := self._ask_more()) is not None:
                self._evaluate(self.asked - 1, ask, submit, running, progress)
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                self._answer(running.pop(future), future.result(), progress)
        if stopping() and not self.found.ended:
            self.found.ended = "interrupted"

    def _ask_more(self) -> Ask | None:
        if not self.found.ended:
            self.found.ended = self._end()
        if self.found.ended or (ask := self._next()) is None:
            return None
        self.journal.append(
            {"event": "ask", "trial": self.asked, "genotype": str(ask.genotype), "fidelity": ask.fidelity}
        )
        self.open[self.asked] = ask
        self.asked += 1
        return ask

    def _end(self) -> str:
        if self.queries is not None and self.asked >= self.queries:
            return "queries"
        if self.budget is not None and self.found.spent >= self.budget:
            return "budget"
        return "exhausted" if self.moves.size is not None and len(self.complete) >= self.moves.size else ""

    def _evaluate(
        self, number: int, ask: Ask, submit: Submit | None, running: dict[Future[Report], int],
        progress: Callable[[Found], None],
    ) -> None:  # fmt: skip
        """Answer a trial from memory, here, or by a worker."""
        before = self.known.get((self.moves.key(ask.genotype), ask.fidelity))
        if before is not None:
            self._answer(number, _repeated(before), progress)
        elif submit is None:
            self._answer(number, answer(self.evaluator, ask.genotype, ask.fidelity, self.seed), progress)
        else:
            running[submit(ask.genotype, ask.fidelity, self.seed)] = number

    def _answer(self, number: int, report: Report, progress: Callable[[Found], None]) -> None:
        self.journal.append({"event": "tell", "trial": number, **_plain(report)})
        self._take(number, report)
        progress(self.found)

    def _take(self, number: int, report: Report) -> None:
        ask = self.open.pop(number)
        key = self.moves.key(ask.genotype)
        self.known.setdefault((key, ask.fidelity), report)
        if ask.fidelity == 1:
            self.complete.add(key)
        self.found.trials.append(Trial(number, ask, key, report))
        self.found.spent += report.cost
        self.proposals.tell(ask, report)


def answer(evaluator: Evaluator, genotype: Genotype, fidelity: float, seed: int) -> Report:
    """Return the report of ``evaluator``. An error, NaN and infinities become a failed report, which ranks last.

    Raises `Interrupted` where the user asked to stop.
    """
    began = time.perf_counter()

    def cost() -> float:
        return time.perf_counter() - began if evaluator.unit == "seconds" else 1.0

    try:
        report = evaluator(genotype, fidelity, seed)
    except Interrupted:
        raise
    except OcheError as error:
        return Report.failed(cost(), fidelity, one_line(error))
    except Exception as error:  # a network that cannot be built or does not fit; the search goes on
        return Report.failed(cost(), fidelity, one_line(f"{type(error).__name__}: {error}"))
    if math.isfinite(report.score):
        return report
    failed = Report.failed(report.cost, fidelity, f"the score is {report.score}")
    return Report(failed.score, failed.cost, fidelity, "failed", {**report.numbers, **failed.numbers})


def _repeated(report: Report) -> Report:
    return Report(report.score, 0.0, report.fidelity, report.status, {"repeat": True})


def _plain(report: Report) -> dict[str, Any]:
    return {
        "score": report.score, "cost": report.cost, "fidelity": report.fidelity, "status": report.status,
        **({"numbers": report.numbers} if report.numbers else {}),
    }  # fmt: skip


def _report(event: Event) -> Report:
    score = event["score"]
    return Report(
        -math.inf if score is None else score,
        event["cost"],
        event["fidelity"],
        event["status"],
        event.get("numbers", {}),
    )
