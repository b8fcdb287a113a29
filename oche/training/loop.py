"""The loop that every training and every search runs in: epochs, records, checkpoints and interruptions.

The loop never reads a number from the device while steps are under way. Meters add up on the device and are read once
an epoch. Then, and before a checkpoint, weights, statistics, averages and logits are checked too: what is not finite ends
the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from oche.core.budget import Budget, Clock, FirstStep
from oche.core.errors import OcheError, one_line
from oche.core.memory import largest_fitting_batch, out_of_memory, release_unused_memory
from oche.core.metrics import Meter
from oche.training.divergence import Diverged, Heartbeat, check_numbers, check_tensors, device_of

Record = dict[str, Any]


class OutOfMemory(OcheError):
    """A step did not fit into memory."""

    exit_code = 1
    settings = ("batch",)


class Interrupted(Exception):
    """The user asked to stop; the state is saved."""


class Progress(Protocol):
    """The progress display of a session."""

    def update(self, done: float, fields: Callable[[], dict[str, Any]], *, seconds: float) -> None: ...


class HiddenProgress:
    """A progress display that shows nothing."""

    def update(self, done: float, fields: Callable[[], dict[str, Any]], *, seconds: float) -> None:
        del done, fields, seconds


class Session:
    """Receives a loop's records and checkpoints. This one keeps records in memory only; `oche.runs.session` has the
    others.
    """

    alone = True  #: whether other batch sizes may be tried after a failed step; False if other processes wait

    def __init__(self) -> None:
        self.history: list[Record] = []
        self.began = time.monotonic()

    def restore(self) -> dict[str, Any] | None:
        """Return the saved state to continue from, or None at the beginning."""
        return None

    def record(self, record: Record) -> None:
        """Add one record of metrics."""
        self.history.append(record)

    def agree_on_seconds(self, seconds: float) -> float:
        """Return the elapsed time that all processes agree on. Called after every step."""
        return seconds

    def agree_on(self, found: bool) -> bool:
        """Return whether any process has ``found`` something."""
        return found

    def tell_listeners(self) -> bool:
        """Tell the user's functions of the epoch that has ended. Return whether one of them asks to stop."""
        return False

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return False

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Save ``state`` for `restore`."""

    def discard_checkpoint(self, step: int) -> None:
        """Delete the state saved after exactly ``step`` steps, because its next loss is not finite."""

    def stopping(self) -> bool:
        """Whether the user asked to stop."""
        return False

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        """Return a context manager that gives a progress display."""
        return nullcontext(HiddenProgress())


class Task(Protocol):
    """The work of one loop. ``state`` must hold everything that later steps depend on, besides the seed.

    - ``begin`` opens the data of an epoch, and ``step`` does one step.
    - ``report`` adds to the record of an epoch that ended.
    - ``initial`` returns a record of the state before the first step, or None.
    - ``ended`` says whether to stop early.
    - ``rate`` returns the learning rate of the last step.
    - ``tensors`` returns, by name, all that must be finite: weights, statistics, averages, logits.
    - ``try_batch`` does a step on ``batch`` images to see whether it fits into memory. The task is unusable afterwards.
    """

    title: str
    meters: dict[str, Meter]

    @property
    def ended(self) -> bool: ...
    @property
    def batch(self) -> int: ...
    def per_epoch(self) -> int: ...
    def begin(self, epoch: int, position: int) -> None: ...
    def step(self, step: int, progress: float) -> None: ...
    def rate(self, progress: float) -> float: ...
    def try_batch(self, batch: int) -> None: ...
    def initial(self) -> Record | None: ...
    def report(self, progress: float) -> Record: ...
    def tensors(self) -> Mapping[str, torch.Tensor]: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


def fit_loop(task: Task, budget: Budget, session: Session) -> Clock:
    """Run ``task`` until its budget is spent, from where ``session`` left it. Return its clock.

    Raises `Interrupted` after the current step if the user asks to stop, `Diverged` if a loss, a weight or a number of a
    record is not finite, and `OutOfMemory`, with a batch size that would fit, if a step does not fit into memory.
    """
    clock, first = _restore(task, budget, session), FirstStep(budget)
    if clock.step == 0 and (before := task.initial()) is not None:
        session.record({"epoch": 0, "step": 0, "progress": 0.0, **before})
    with session.progress(task.title) as bar:
        # A run that stopped after its very last step still has an epoch to close.
        try:
            _check(task, clock, session)  # checkpoints of earlier versions may hold what is not finite
            while (clock.progress(task.per_epoch()) < 1 and not task.ended) or clock.position:
                _epoch(task, clock, session, bar, first)
                if _stop_is_asked(task, clock, session):
                    break
        except Diverged as error:
            session.discard_checkpoint(error.step)
            raise
    _save(task, clock, session)
    return clock


def _restore(task: Task, budget: Budget, session: Session) -> Clock:
    if (state := session.restore()) is None:
        return Clock(budget)
    try:
        task.load(state["task"])
    except (RuntimeError, KeyError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, OcheError) or out_of_memory(error):
            raise
        raise OcheError(
            f"the checkpoint does not fit the network and optimizers of this configuration ({one_line(error)[:160]}); "
            "write the old values back into config.yaml, or start anew"
        ) from None
    for name, sums in state["meters"].items():
        task.meters[name].sums.copy_(sums)
    clock = Clock(budget, **state["clock"])
    clock.resumed = clock.seconds
    return clock


def _epoch(task: Task, clock: Clock, session: Session, bar: Progress, first: FirstStep) -> None:
    """Run one epoch, or the rest of one."""
    per_epoch = task.per_epoch()
    began, worked = time.perf_counter(), clock.elapsed
    pulse = Heartbeat(task, clock)
    task.begin(clock.epoch, clock.position)
    while clock.position < per_epoch and (progress := clock.progress(per_epoch)) < 1:
        started = time.perf_counter()
        _step(task, clock.step, progress, session.alone)
        clock.step += 1
        clock.position += 1
        worked += first.note(time.perf_counter() - started)
        clock.uncounted = first.uncounted
        clock.elapsed = session.agree_on_seconds(worked + time.perf_counter() - began)
        pulse.beat(progress)
        bar.update(
            clock.progress(per_epoch), lambda: {"epoch": clock.epoch + 1, **_read(task, pulse)}, seconds=clock.seconds
        )
        if session.due() or session.stopping():
            pulse.check()  # do not save a state that has diverged
            _check(task, clock, session, pulse.rates[-1])
            _save(task, clock, session)
            if session.stopping():
                raise Interrupted
    numbers = _read(task, pulse)  # waits for the device, so its work counts in the time of the steps
    steps, rate = len(pulse.rates), pulse.rates[-1] if pulse.rates else None
    if steps:
        clock.elapsed = session.agree_on_seconds(worked + time.perf_counter() - began)
    _close_epoch(task, clock, session, numbers, 1000 * (clock.elapsed - worked) / steps if steps else None, rate)


def _close_epoch(
    task: Task, clock: Clock, session: Session, numbers: Record, per_step: float | None, rate: float | None
) -> None:
    """Record an epoch and move the clock to the next one.

    ``per_step``: milliseconds of a step, and ``rate``: learning rate of the last one; None if all steps of this epoch were
    done before an interruption.
    """
    began = time.perf_counter()
    progress = clock.progress(task.per_epoch())
    _check(task, clock, session, rate)  # before time is spent on a validation
    timings = {"seconds": round(clock.seconds, 3), "step_ms": per_step and round(per_step, 3)}
    head = {"epoch": clock.epoch + 1, "step": clock.step, "progress": progress}
    found = task.report(progress)
    check_numbers(found, f"after step {clock.step} (epoch {clock.epoch + 1})", clock.step, rate)
    session.record({**head, **numbers, **found, "timings": timings})
    ended = progress >= 1
    clock.epoch, clock.position = clock.epoch + 1, 0
    for meter in task.meters.values():
        meter.sums.zero_()
    spent = session.agree_on_seconds(time.perf_counter() - began)
    if not ended:  # a final test is no part of the time
        clock.spend(spent)


def _stop_is_asked(task: Task, clock: Clock, session: Session) -> bool:
    """Tell listeners of the epoch that has ended. What they raise stops the loop, after everything is saved."""
    try:
        return session.tell_listeners()
    except BaseException:
        _save(task, clock, session)
        raise


def _step(task: Task, step: int, progress: float, alone: bool) -> None:
    """Do one step. Raises `OutOfMemory` if it does not fit into memory.

    If ``alone``, smaller batches are tried first, so that the message can name one that fits.
    """
    try:
        return task.step(step, progress)
    except Exception as error:
        if not out_of_memory(error):
            raise
    # Outside the except block no frame keeps the tensors of the failed step alive.
    release_unused_memory()
    batch = task.batch
    if alone and (fits := largest_fitting_batch(batch, task.try_batch)):
        use = f"a batch of {fits} fits (tried)"
    elif (
        alone and device_of(task).type == "cpu" and batch > 1
    ):  # what is freed there need not be of use to this process again
        use = f"half of that, {batch // 2}, may fit; this process has too little left to try"
    elif not alone and batch > 1:
        use = f"half of that, {batch // 2}, may fit; with several ranks it is not tried"
    else:
        use = "smaller batches do not fit either; use fewer channels or cells"
    raise OutOfMemory(f"out of memory at step {step + 1}, with batches of {batch}; {use}")


def _check(task: Task, clock: Clock, session: Session, rate: float | None = None) -> None:
    """Raise `Diverged` if a tensor of ``task`` is not finite. ``rate``: the learning rate of the last step."""
    when = f"after step {clock.step} (epoch {clock.epoch + (clock.position > 0)})"
    check_tensors(task.tensors(), when, clock.step, rate, session.agree_on)


def _read(task: Task, pulse: Heartbeat) -> dict[str, float | None]:
    """Return the means of all meters. Raises `Diverged` if a loss is not finite."""
    pulse.check()
    numbers: dict[str, float | None] = {}
    for name, meter in task.meters.items():
        numbers |= meter.numbers(name)
    return numbers


def _save(task: Task, clock: Clock, session: Session) -> None:
    position = {k: getattr(clock, k) for k in ("step", "epoch", "position", "elapsed", "beyond")}
    meters = {name: meter.sums for name, meter in task.meters.items()}
    session.save(clock.step, {"task": task.state(), "clock": position, "meters": meters})
