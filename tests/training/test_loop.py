"""Budgets, clocks, meters, and the drive through epochs, saves and interruptions, with a task that only counts."""

import copy
import itertools
import math

import pytest
import torch

from oche.core.budget import Budget, Clock
from oche.core.errors import OcheError
from oche.core.memory import largest_fitting_batch
from oche.core.metrics import Meter
from oche.training.loop import Diverged, Interrupted, OutOfMemory, Session, fit_loop

# --- the drive


class Counting:
    """A task whose state is a sum over its data: item (epoch, position) of an order that begins anew each epoch."""

    title = "counting"

    def __init__(self, per_epoch=3, break_at=None):
        self.meters = {"train": Meter()}
        self.ended = False
        self.total, self.opened, self.seen, self.length, self.break_at = 0.0, [], [], per_epoch, break_at
        self._items = iter(())

    def per_epoch(self):
        return self.length

    def rate(self, progress):
        return 1.0 - progress

    def begin(self, epoch, position):
        self.opened.append((epoch, position))
        self._items = iter([(epoch, p) for p in range(position, self.length)])

    def step(self, step, progress):
        epoch, position = next(self._items)
        self.seen.append((step, epoch, position, progress))
        self.total = 0.9 * self.total + epoch + 10 * position + progress
        loss = torch.tensor(math.nan if step == self.break_at else self.total)
        self.meters["train"].add(torch.eye(2), torch.tensor([0, step % 2]), loss)

    def initial(self):
        return {"total": self.total}

    def report(self, progress):
        return {"total": self.total, "reported": progress}

    def tensors(self):
        return {"total": torch.tensor(self.total)}

    def state(self):
        return {"total": self.total}

    def load(self, state):
        self.total = state["total"]


class Memory(Session):
    """Keeps states, and like a run directory forgets the records that were made after the state it goes on from."""

    def __init__(self, saved=None, due=lambda n: False, stop_after=None):
        super().__init__()
        self.saves, self.distrusted, self._due, self._stop_after, self.steps = [], [], due, stop_after, 0
        self._saved = copy.deepcopy(saved)
        if saved is not None:
            self.history = list(self._saved["history"])

    def restore(self):
        return None if self._saved is None else {k: v for k, v in self._saved.items() if k != "history"}

    def due(self):
        self.steps += 1
        return self._due(self.steps)

    def save(self, step, state):
        self.saves.append((step, copy.deepcopy({**state, "history": self.history})))

    def discard_checkpoint(self, step):
        self.distrusted.append(step)

    def stopping(self):
        return self._stop_after is not None and self.steps >= self._stop_after


def plain(history):
    return [{k: v for k, v in record.items() if k != "timings"} for record in history]


def run(budget, session=None, **fields):
    task, session = Counting(**fields), session or Memory()
    clock = fit_loop(task, budget, session)
    return task, session, clock


def test_records_of_a_run_counted_in_epochs():
    task, session, clock = run(Budget(2))
    assert [s[:3] for s in task.seen] == [(3 * e + p, e, p) for e in range(2) for p in range(3)]
    assert [s[3] for s in task.seen] == pytest.approx([i / 6 for i in range(6)])
    first, *records = session.history
    assert first == {"epoch": 0, "step": 0, "progress": 0.0, "total": 0.0}
    assert [(r["epoch"], r["step"], r["progress"], r["reported"]) for r in records] == [(1, 3, 0.5, 0.5), (2, 6, 1, 1)]
    assert records[1]["total"] == task.total
    # labels (0, step odd) against predictions (0, 1): steps 3, 4, 5 have 2, 1, 2 right of 2
    assert records[1]["train_acc"] == pytest.approx(5 / 6)
    assert records[1]["timings"]["step_ms"] >= 0
    assert (clock.step, clock.epoch, clock.position) == (6, 2, 0)
    assert [step for step, _ in session.saves] == [6]


def test_a_run_counted_in_steps_closes_its_last_part_of_an_epoch():
    task, session, clock = run(Budget(99, 5))
    assert [s[3] for s in task.seen] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert [(r["epoch"], r["step"], r["progress"]) for r in session.history] == [(0, 0, 0), (1, 3, 0.6), (2, 5, 1)]
    assert clock.step == 5


def test_a_run_counted_in_time_ends_with_a_record_at_progress_1(monkeypatch):
    now = [0.0]

    def tick():
        now[0] += 0.25
        return now[0]

    monkeypatch.setattr("oche.training.loop.time.perf_counter", tick)
    task, session, clock = run(Budget(99, None, 4.0))
    assert session.history[-1]["progress"] == 1 and session.history[-1]["reported"] == 1
    assert all(r["progress"] < 1 for r in session.history[:-1])
    progresses = [s[3] for s in task.seen]
    assert progresses[0] == 0 and all(a < b < 1 for a, b in itertools.pairwise(progresses))
    assert clock.elapsed >= 4.0


class Slow(Counting):
    """A task whose steps and reports take the times it is given, on the clock ``now``."""

    def __init__(self, now, steps, report=0.0, **fields):
        super().__init__(**fields)
        self.now, self.times, self.report_time = now, iter(steps), report

    def step(self, step, progress):
        super().step(step, progress)
        self.now[0] += next(self.times)

    def report(self, progress):
        self.now[0] += self.report_time
        return super().report(progress)


@pytest.fixture
def now(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("oche.training.loop.time.perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("length", "steps", "report", "seconds", "uncounted", "count"),
    [
        (10.0, [5.0, *[2.0] * 9], 0.0, 10.0, 3.0, 5),  # the first step counts like the second
        (10.0, [2.0] * 9, 0.0, 10.0, 0.0, 5),
        (10.0, [1.0, *[3.0] * 9], 0.0, 10.0, 0.0, 4),  # a first step that is quicker counts as it is
        (10.0, [50.0, *[4.0] * 9], 0.0, 12.0, 46.0, 3),
        (1.0, [50.0, *[4.0] * 9], 0.0, 8.0, 46.0, 2),  # a budget shorter than a step: two steps
        (10.0, [2.0] * 9, 1.0, 11.0, 0.0, 5),  # validation after 3 steps counts, the one at the end does not
        (10.0, [2.0] * 9, 7.0, 15.0, 0.0, 4),  # validation that exceeds the budget: one step more, and all is shown
    ],
)
def test_what_a_budget_of_time_counts(now, length, steps, report, seconds, uncounted, count):
    task, session = Slow(now, steps, report), Memory()
    clock = fit_loop(task, Budget(99, None, length), session)
    assert clock.seconds == pytest.approx(seconds) and clock.uncounted == pytest.approx(uncounted)
    assert clock.step == count
    assert session.history[-1]["timings"]["seconds"] == pytest.approx(seconds)  # one number everywhere
    progresses = [at for *_, at in task.seen]
    assert progresses == sorted(progresses) and session.history[-1]["progress"] == 1


def test_a_run_of_epochs_counts_its_first_step_and_not_its_last_report(now):
    clock = fit_loop(Slow(now, [9.0, *[1.0] * 5], 5.0), Budget(2), session := Memory())
    assert clock.seconds == pytest.approx(9 + 5 + 5) and clock.uncounted == 0
    assert session.history[-1]["timings"]["seconds"] == pytest.approx(19)


def test_what_had_no_room_in_a_budget_is_kept_over_a_stop(now):
    first = Memory(stop_after=4)
    with pytest.raises(Interrupted):
        fit_loop(Slow(now, [2.0] * 9, 7.0), Budget(99, None, 10.0), first)
    clock = fit_loop(Slow(now, [], 7.0), Budget(99, None, 10.0), Memory(first.saves[-1][1]))
    assert clock.seconds == pytest.approx(15) and clock.resumed == pytest.approx(15) and clock.step == 4


BUDGETS = [Budget(3), Budget(99, 8), Budget(99, 6), Budget(1)]


@pytest.mark.parametrize("budget", BUDGETS, ids=["epochs", "steps", "whole epochs of steps", "one epoch"])
def test_going_on_from_any_step_ends_as_if_nothing_had_happened(budget):
    task, whole, clock = run(budget)
    _, session, _ = run(budget, Memory(due=lambda n: True))
    assert [step for step, _ in session.saves] == [*range(1, clock.step + 1), clock.step]
    for step, state in session.saves:
        again, resumed, end = run(budget, Memory(state))
        assert plain(resumed.history) == plain(whole.history), step
        assert again.total == task.total and again.seen == task.seen[step:]
        assert (end.step, end.epoch, end.position) == (clock.step, clock.epoch, clock.position)


@pytest.mark.parametrize("after", range(1, 7))
def test_stopping_finishes_the_step_saves_and_can_go_on(after):
    session = Memory(stop_after=after)
    task = Counting()
    with pytest.raises(Interrupted):
        fit_loop(task, Budget(2), session)
    assert len(task.seen) == after and session.saves[-1][0] == after
    _, resumed, _ = run(Budget(2), Memory(session.saves[-1][1]))
    assert plain(resumed.history) == plain(run(Budget(2))[1].history)


def test_time_worked_adds_up_over_resumptions():
    _, session, _ = run(Budget(2), Memory(due=lambda n: n == 4))
    step, state = session.saves[0]
    assert step == 4
    state["clock"]["elapsed"] = 1000.0
    _, resumed, clock = run(Budget(2), Memory(state))
    assert 1000 < clock.elapsed < 1100 and resumed.history[-1]["timings"]["seconds"] >= 1000


@pytest.mark.parametrize("at", [0, 4, 5])
def test_a_loss_that_is_no_number_ends_the_run_and_is_never_saved(at):
    session = Memory(due=lambda n: True)
    rate = f"{1 - at / 6:.3g}"
    said = rf"train loss became nan at step {at + 1} \(epoch {at // 3 + 1}\), with a learning rate of {rate}; try a smaller"
    with pytest.raises(Diverged, match=said) as caught:
        run(Budget(2), session, break_at=at)
    assert [step for step, _ in session.saves] == list(range(1, at + 1))
    assert caught.value.step == at and session.distrusted == [at]
    assert Diverged.exit_code == 1 and OcheError.exit_code == 2


def test_progress_is_shown_after_every_step_with_numbers_on_demand():
    shown, times = [], []

    class Bar:
        def update(self, done, fields, *, seconds):
            shown.append((done, fields()))
            times.append(seconds)

    class Showing(Memory):
        def progress(self, title):
            from contextlib import nullcontext

            assert title == "counting"
            return nullcontext(Bar())

    _, session, clock = run(Budget(2), Showing())
    assert times == sorted(times) and times[-1] <= clock.seconds  # the time that records and the summary have
    assert session.history[-1]["timings"]["seconds"] == round(clock.seconds, 3)
    assert [done for done, _ in shown] == pytest.approx([i / 6 for i in range(1, 7)])
    assert [fields["epoch"] for _, fields in shown] == [1, 1, 1, 2, 2, 2]
    assert shown[0][1]["train_acc"] == 0.5 and shown[1][1]["train_acc"] == 0.75


# --- bad luck


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_no_number_is_found_within_the_epoch(value):
    class Breaking(Counting):
        def step(self, step, progress):
            super().step(step, progress)
            if step == 7:
                self.meters["train"].add(torch.eye(2), torch.zeros(2, dtype=torch.int64), torch.tensor(value))

    task = Breaking(per_epoch=1000)
    with pytest.raises(Diverged, match=rf"train loss became {value} at step 8 \(epoch 1\)"):
        fit_loop(task, Budget(1), Memory())
    assert len(task.seen) == 8


def test_losses_of_a_gpu_are_looked_at_now_and_then(monkeypatch):
    """A tensor on the meta device stands for one whose values have to be waited for: reading it is an error."""
    from oche.training.divergence import CHECK_EVERY, Heartbeat

    task, looks = Counting(), []
    task.meters = {"train": Meter("meta")}
    pulse = Heartbeat(task, Clock(Budget(1), step=40, epoch=2))
    assert pulse.every == CHECK_EVERY
    monkeypatch.setattr(pulse, "check", lambda: looks.append(len(pulse.rates)))
    for i in range(3 * CHECK_EVERY - 1):
        pulse.beat(i / 1000)
    assert looks == [CHECK_EVERY, 2 * CHECK_EVERY]


def test_the_step_at_fault_is_named_however_late_one_looks():
    from oche.training.divergence import Heartbeat

    task = Counting()
    pulse = Heartbeat(task, Clock(Budget(1), step=40, epoch=2))
    pulse.every = 10
    with pytest.raises(Diverged, match=r"train loss became nan at step 44 \(epoch 3\), with a learning rate of 0.7"):
        for i in range(10):
            task.meters["train"].sums[0] += math.nan if i == 3 else 1.0
            pulse.beat(i / 10)
    assert len(pulse.rates) == 10


class Large(Counting):
    """A task of which so many images fit, and that tells what was tried."""

    batch = 100

    def __init__(self, room, break_at=2):
        super().__init__()
        self.room, self.break_step, self.tried = room, break_at, []

    def step(self, step, progress):
        if step == self.break_step:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        super().step(step, progress)

    def try_batch(self, batch):
        self.tried.append(batch)
        if batch > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "tried", "fits"),
    [
        (99, [50, 75], 75),
        (60, [50, 75], 50),
        (30, [50, 25, 37], 25),
        (12, [50, 25, 12, 18], 12),
        (2, [50, 25, 12, 6, 3], None),  # half of 3 is one image, which a BatchNorm may not take
    ],
)
def test_too_little_memory_names_a_batch_that_was_tried(room, tried, fits):
    task, session = Large(room), Memory(due=lambda n: True)
    with pytest.raises(OutOfMemory) as caught:
        fit_loop(task, Budget(2), session)
    assert task.tried == tried and [step for step, _ in session.saves] == [1, 2]
    said = str(caught.value)
    assert said.startswith("out of memory at step 3, with batches of 100; ")
    assert ("half of that, 50, may fit; this process" if fits is None else f"a batch of {fits} fits (tried)") in said
    assert OutOfMemory.exit_code == 1


@pytest.mark.slow
def test_on_a_gpu_what_was_tried_is_the_answer():
    task = Large(2, break_at=0)
    task.meters = {"train": Meter("meta")}
    with pytest.raises(OutOfMemory, match="100; smaller batches do not fit either; use fewer channels or cells"):
        fit_loop(task, Budget(2), Memory())


def test_other_errors_of_a_step_are_not_taken_for_too_little_memory():
    class Broken(Large):
        def step(self, step, progress):
            raise RuntimeError("a bug")

    task = Broken(50)
    with pytest.raises(RuntimeError, match="a bug"):
        fit_loop(task, Budget(1), Memory())
    assert task.tried == []
    with pytest.raises(RuntimeError, match="another"):
        largest_fitting_batch(8, lambda n: (_ for _ in ()).throw(RuntimeError("another")))


# --- listeners


def test_a_listener_may_stop_the_loop_after_an_epoch():
    session, task = Memory(), Counting()
    session.tell_listeners = lambda: session.history[-1]["epoch"] == 2
    clock = fit_loop(task, Budget(epochs=5), session)
    assert (clock.epoch, clock.position, clock.step) == (2, 0, 6) and [r["epoch"] for r in session.history] == [0, 1, 2]
    assert session.saves[-1][1]["clock"]["epoch"] == 2  # a checkpoint of the end


def test_an_error_of_a_listener_stops_the_loop_with_everything_saved():
    def fail():
        raise KeyError("mine")

    whole, session, task = Memory(), Memory(), Counting()
    fit_loop(Counting(), Budget(epochs=3), whole)
    session.tell_listeners = fail
    with pytest.raises(KeyError, match="mine"):
        fit_loop(task, Budget(epochs=3), session)
    assert [r["epoch"] for r in session.history] == [0, 1]
    again = Memory(session.saves[-1][1])
    fit_loop(Counting(), Budget(epochs=3), again)
    drop = [[{k: v for k, v in r.items() if k != "timings"} for r in s.history] for s in (again, whole)]
    assert drop[0] == drop[1]
