"""What a loop says, in a run directory: records, checkpoints, going on, and stopping."""

import time

import pytest
import torch

from oche.core.budget import Budget
from oche.core.console import Log
from oche.core.metrics import Meter
from oche.core.signals import Interrupt
from oche.runs.directory import RunDir, read_metrics
from oche.runs.session import DirectorySession, SharedSession
from oche.training.loop import Diverged, Interrupted, Session, fit_loop


@pytest.fixture
def run(tmp_path):
    with RunDir.create(tmp_path / "x", "", "search") as run:
        yield run


def make(run, every=60.0, interrupt=None):
    return DirectorySession(run, Log(quiet=True), interrupt or Interrupt(), every)


def test_records(run):
    session = make(run)
    assert session.restore() is None
    session.record({"epoch": 0, "step": 0, "genotype": "first"})
    session.record({"epoch": 1, "step": 4, "val_loss": 1.5, "arch": {}, "genotype": "second"})
    assert read_metrics(run.path) == session.history
    assert (run.path / "genotype.txt").read_text() == "second\n"


def test_scalars_reach_tensorboard(run):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    session = make(run)
    session.record({"epoch": 1, "step": 4, "val_loss": 1.5, "val_acc": None, "arch": {}, "timings": {"seconds": 3}})
    events = module.EventAccumulator(str(run.path))
    events.Reload()
    assert events.Tags()["scalars"] == ["val_loss", "timings/seconds"]
    assert [(e.step, e.value) for e in events.Scalars("val_loss")] == [(4, 1.5)]


def test_without_a_checkpoint_it_begins_anew(run):
    make(run).record({"epoch": 0, "step": 0})
    session = make(run)
    assert session.restore() is None and session.history == [] and read_metrics(run.path) == []


def test_going_on_drops_what_came_after_the_checkpoint(run):
    session = make(run)
    session.record({"epoch": 1, "step": 3})
    session.save(5, {"task": {"w": torch.ones(2)}})
    session.record({"epoch": 2, "step": 6})
    session = make(run)
    state = session.restore()
    assert state.keys() == {"task"} and torch.equal(state["task"]["w"], torch.ones(2))
    assert session.history == read_metrics(run.path) == [{"epoch": 1, "step": 3}]


def test_due(run, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    session, always = make(run, every=10), make(run, every=0)
    assert not session.due() and always.due()
    now[0] += 10
    assert session.due()
    session.save(1, {})
    assert not session.due()


# --- with a loop ------------------------------------------------------------------------------------------------------


class Task:
    """Adds step numbers up; ``at`` is called before each step."""

    title = "sum"

    def __init__(self, at=lambda step: None):
        self.meters = {"train": Meter()}
        self.ended = False
        self.total, self.at, self.done = torch.zeros(1), at, []

    def per_epoch(self):
        return 3

    def begin(self, epoch, position):
        self.place = (epoch, position)

    def step(self, step, progress):
        self.at(step)
        epoch, position = self.place
        assert step == 3 * epoch + position
        self.place = (epoch, position + 1)
        self.total += step
        self.done.append(step)
        self.meters["train"].add(torch.eye(2), torch.tensor([0, step % 2]), torch.tensor(float(step)))

    def rate(self, progress):
        return 0.1

    def initial(self):
        return {}

    def report(self, progress):
        return {"total": self.total.item()}

    def tensors(self):
        return {"total": self.total}

    def state(self):
        return {"total": self.total}

    def load(self, state):
        self.total = state["total"].clone()


def untimed(records):
    return [{k: v for k, v in r.items() if k != "timings"} for r in records]


class Dies(BaseException):
    pass


@pytest.mark.parametrize("budget", [Budget(2), Budget(1, steps=5)])
@pytest.mark.parametrize("every", [0.0, 1e9])
@pytest.mark.parametrize("how", ["dies", "asked"])
def test_stopped_anywhere_it_ends_the_same(tmp_path, budget, every, how):
    whole = Task()
    with RunDir.create(tmp_path / "whole", "", "search") as run:
        fit_loop(whole, budget, make(run))
    for last in range(budget.steps or 6):
        with RunDir.create(tmp_path / f"x{last}", "", "search") as run:
            interrupt = Interrupt()

            def at(step, last=last, interrupt=interrupt):
                if step == last:
                    interrupt.asked = True
                    if how == "dies":
                        raise Dies

            first = Task(at)
            with pytest.raises(Dies if how == "dies" else Interrupted):
                fit_loop(first, budget, make(run, every, interrupt))
            second = Task()
            fit_loop(second, budget, make(run, every))
            assert untimed(run.metrics()) == untimed(read_metrics(tmp_path / "whole"))
            assert torch.equal(second.total, whole.total)
            if how == "asked" or every == 0:  # nothing is done twice
                assert first.done + second.done == whole.done
            fit_loop(Task(lambda step: pytest.fail("the run is over")), budget, make(run, every))
            assert untimed(run.metrics()) == untimed(read_metrics(tmp_path / "whole"))


def test_a_diverged_state_is_not_kept(run):
    class Diverging(Task):
        def step(self, step, progress):
            super().step(step, progress)
            if step == 2:
                self.meters["train"].sums += float("nan")

    with pytest.raises(Diverged, match="train loss became nan at step 3"):
        fit_loop(Diverging(), Budget(3), make(run, every=0))
    # nor the state whose very next loss was no number
    assert [p.name.split("-")[1] for p in (run.path / "checkpoints").iterdir()] == ["00000001"]


# --- listeners


def test_listeners_get_plain_copies_of_the_record(run):
    seen, more = [], []
    session = DirectorySession(
        run, Log(quiet=True), Interrupt(), listeners=(seen.append, lambda r: more.append(r["epoch"]))
    )
    session.record({"epoch": 3, "step": 6, "lrs": (1.0, float("nan"))})
    assert session.tell_listeners() is False
    assert seen == [{"epoch": 3, "step": 6, "lrs": [1.0, None]}] == run.metrics() and more == [3]
    seen[0]["epoch"] = 9
    assert session.history[0]["epoch"] == 3


@pytest.mark.parametrize(
    ("answers", "stops"),
    [
        ((None,), False),
        (("stop",), True),
        ((None, "stop"), True),
        ((True, 1, "Stop", torch.ones(3)), False),
        ((), False),
    ],
)
def test_only_the_word_stop_stops(run, answers, stops):
    session = DirectorySession(
        run, Log(quiet=True), Interrupt(), listeners=tuple(lambda record, a=a: a for a in answers)
    )
    session.record({"epoch": 1, "step": 2})
    assert session.tell_listeners() is stops


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_of_a_listener_says_how_to_go_on(run, error):
    def fail(record):
        raise error

    session = DirectorySession(run, Log(quiet=True), Interrupt(), listeners=(fail,))
    session.record({"epoch": 4, "step": 8})
    with pytest.raises(type(error)) as caught:
        session.tell_listeners()
    assert caught.value.__notes__ == [
        f"raised by on_epoch after epoch 4; everything is saved; go on with: oche resume {run.path}"
    ]


class Ranks:
    """A process group of which this is one rank; ``others`` are the numbers that the other ranks add."""

    def __init__(self, *others):
        self.others = others

    def sum_numbers(self, numbers):
        return [a + b for a, b in zip(numbers, self.others, strict=True)]


def test_ranks_stop_together(run):
    def session(answer, *others):
        own = Session()
        own.tell_listeners = answer
        return SharedSession(own, Log(quiet=True), Interrupt(), Ranks(*others))

    def fail():
        raise KeyError("mine")

    assert session(lambda: False, 0.0, 0.0).tell_listeners() is False
    assert session(lambda: True, 0.0, 0.0).tell_listeners() and session(lambda: False, 1.0, 0.0).tell_listeners()
    with pytest.raises(KeyError, match="mine"):
        session(fail, 0.0, 0.0).tell_listeners()
    with pytest.raises(Interrupted):
        session(lambda: False, 0.0, 1.0).tell_listeners()
