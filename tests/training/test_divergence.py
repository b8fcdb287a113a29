"""What is not finite ends a run wherever it arises: weights, statistics, averages, logits, validation, the last step."""

import math
from math import inf, nan

import pytest
import torch

from image_training import recipe as image_recipe
from oche.bilevel.search import Search
from oche.core.errors import OcheError
from oche.core.metrics import Meter
from oche.devices.engine import Engine
from oche.methods import curvature
from oche.methods.discretize import TopK
from oche.methods.published import darts
from oche.runs.checkpoint import from_bytes, to_bytes
from oche.training import image_trainer, language_trainer
from oche.training.divergence import Diverged, LogitsDiverged, check_numbers, check_tensors
from oche.training.image_trainer import Training, train
from oche.training.language_recipes import LanguageRecipe, PlainSgd
from oche.training.language_trainer import LanguageTraining
from oche.training.loop import Session, fit_loop
from small_searches import small, start
from tiny_images import Kept, dataset
from tiny_text import corpus as text


class Noted(Kept):
    """Keeps every state, and which checkpoints were discarded."""

    def __init__(self, start=None):
        super().__init__(start)
        self.discarded = []

    def discard_checkpoint(self, step):
        self.discarded.append(step)


def after_step(monkeypatch, cls, number, spoil):
    """Calls ``spoil(task)`` after step ``number``, counted from 1, of any task of the class."""
    step = cls.step

    def spoilt(self, at, progress):
        step(self, at, progress)
        if at + 1 == number:
            spoil(self)

    monkeypatch.setattr(cls, "step", spoilt)


def training(session=None, **fields):
    """Two epochs of four steps."""
    made = image_recipe(**{**dict(drop_path=0.0, auxiliary=0.0), **fields})
    from image_training import CELL

    session = session or Noted()
    with pytest.raises(Diverged) as caught:
        train(CELL, made, dataset(), seed=0, engine=Engine("cpu"), session=session)
    return caught.value, session


# --- trainings of images ----------------------------------------------------------------------------------------------

PLACES = {
    "a weight": (lambda task: task.weights[0].data[0].fill_(nan), "stem.0.weight is not finite (9 of 54 values are nan)"),
    "a running variance": (
        lambda task: task.net.stem[1].running_var[0].fill_(inf),
        "stem.1.running_var is not finite (1 of 6 values is infinite)",
    ),
    "a running mean": (
        lambda task: task.net.stem[1].running_mean.fill_(-inf),
        "stem.1.running_mean is not finite (6 of 6 values are infinite)",
    ),
    "an average": (
        lambda task: task.average.means[0].view(-1)[0].fill_(nan),
        "the average of stem.0.weight is not finite (1 of 54 values is nan)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_after_the_last_step_no_further_loss_is_computed_and_yet_it_is_found(place, monkeypatch):
    spoil, says = PLACES[place]
    after_step(monkeypatch, Training, 8, spoil)
    error, session = training(ema=0.9)
    assert str(error) == (
        f"{says} after step 8 (epoch 2), with a learning rate of 0.0134; try a smaller learning rate or gradient clipping"
    )
    assert (error.exit_code, error.settings, error.step) == (1, ("w.lr", "w.clip"), 8) and isinstance(error, OcheError)
    assert [record["epoch"] for record in session.history] == [1] and session.discarded == [8]
    assert len(session.states) == 7  # after every step but the last: what is broken is never saved


@pytest.mark.parametrize("place", ["a running variance", "an average"])
def test_it_is_found_before_the_next_checkpoint(place, monkeypatch):
    spoil, says = PLACES[place]
    after_step(monkeypatch, Training, 3, spoil)
    error, session = training(ema=0.9)
    assert str(error).startswith(f"{says} after step 3 (epoch 1), ") and len(session.states) == 2


def test_and_without_checkpoints_at_the_end_of_the_epoch(monkeypatch):
    class Never(Noted):
        def due(self):
            return False

    spoil, says = PLACES["a running variance"]  # it plays no part in the losses of the training
    after_step(monkeypatch, Training, 2, spoil)
    error, session = training(Never())
    assert str(error).startswith(f"{says} after step 4 (epoch 1), ") and session.history == []


@pytest.mark.parametrize("loss", [nan, inf, -inf])
def test_a_validation_loss(loss, monkeypatch):
    def broken(*args, **fields):
        meter = Meter()
        meter.add(torch.eye(2), torch.tensor([0, 1]), torch.tensor(loss))
        return meter

    monkeypatch.setattr(image_trainer, "evaluate", broken)
    error, session = training()
    assert str(error).startswith(f"the test loss became {loss} after step 4 (epoch 1), with a learning rate of 0.0")
    assert session.history == [] and session.discarded == [4]


def test_averages_that_were_never_made_are_not_asked_for():
    from image_training import make

    task = make(image_recipe(ema=0.9))
    assert not any(name.startswith("the average") for name in task.tensors())
    task.begin(0, 0)
    task.step(0, 0.0)
    names = [name for name in task.tensors() if name.startswith("the average of ")]
    floats = [name for name, t in task.net.state_dict().items() if t.is_floating_point()]
    assert sorted(name.removeprefix("the average of ") for name in names) == sorted(floats)
    for name in floats:  # each beside its own
        assert task.tensors()[f"the average of {name}"].shape == task.net.state_dict()[name].shape


def test_a_checkpoint_of_an_earlier_version_may_hold_what_is_broken(monkeypatch):
    from image_training import CELL

    sound = Kept()
    train(CELL, image_recipe(), dataset(), seed=0, engine=Engine("cpu"), session=sound)
    state, history = sound.states[2]
    state = from_bytes(state)
    state["task"]["net"]["stem.1.running_var"][2] = nan
    error, session = training(Noted((to_bytes(state), history)), auxiliary=0.4, drop_path=0.2)
    assert str(error) == (
        "stem.1.running_var is not finite (1 of 6 values is nan) after step 3 (epoch 1); try a smaller learning rate or gradient "
        "clipping"
    )
    assert session.discarded == [3] and session.states == []


# --- searches ---------------------------------------------------------------------------------------------------------


def search(task, session=None):
    session = session or Session()
    with pytest.raises(Diverged) as caught:
        fit_loop(task, task.recipe.length, session)
    return caught.value, session


@pytest.mark.parametrize("order", [1, 2])
def test_a_hypergradient(order, monkeypatch):
    """The weights of the same step train under the logits that it broke."""
    task = start(darts(order=order, epochs=1, batch=4))
    given = type(task.method.hypergrad).__call__

    def broken(self, *args):
        return tuple(g * (nan if task.done == 2 else 1) for g in given(self, *args))

    monkeypatch.setattr(type(task.method.hypergrad), "__call__", broken)
    error, session = search(task)
    assert str(error).startswith("the train loss became nan at step 2 (epoch 1), ")
    assert [record["epoch"] for record in session.history] == [0]


def test_logits_that_no_further_loss_sees(monkeypatch):
    task = start(darts(epochs=1, batch=4))
    after_step(monkeypatch, Search, 3, lambda task: task.logits[1].data[0, 1].fill_(nan))
    error, session = search(task)
    assert isinstance(error, LogitsDiverged) and error.settings == ("a.lr", "w.lr")
    assert str(error).startswith("logits.reduce is not finite (1 of 20 values is nan) after step 3 (epoch 1), ")
    assert [record["epoch"] for record in session.history] == [0]


def test_weights_of_the_supernet_and_an_eigenvalue(monkeypatch):
    task = start(darts(epochs=1, batch=4))
    with monkeypatch.context() as patch:
        after_step(patch, Search, 3, lambda task: task.weights[-1].data.fill_(inf))
        error, _ = search(task)
    assert not isinstance(error, LogitsDiverged) and "head.2.bias is not finite (3 of 3 values are infinite)" in str(
        error
    )
    monkeypatch.setattr(Search, "_eigenvalue", lambda self, progress: nan)
    error, _ = search(start(darts(epochs=1, batch=4, hessian_every=1)))
    assert str(error).startswith("the eigenvalue became nan after step 3 (epoch 1), ")


@pytest.mark.parametrize("broken", ["loss", "second derivatives"])
def test_a_curvature_that_cannot_be_measured(broken, monkeypatch):
    """Weights and logits are finite, and what is computed of them is not."""

    def spoil(task):
        task.feed.probe_batch = lambda epoch, batch: (torch.full((4, 1, 8, 8), 1e38), torch.zeros(4, dtype=torch.int64))
        if broken != "loss":
            products = curvature.hessian_product
            monkeypatch.setattr(curvature, "hessian_product", lambda loss, a: lambda v: products(loss, a)(v) * inf)
            task.feed.probe_batch = probe

    task = start(darts(epochs=1, batch=4, hessian_every=1))
    probe = task.feed.probe_batch
    spoil(task)
    error, session = search(task)
    assert str(error).startswith(f"the eigenvalue after step 3 (epoch 1): the {broken} ") and error.step == 3
    assert [record["epoch"] for record in session.history] == [0]


def test_a_selection_that_leaves_broken_weights(monkeypatch):
    class Spoils(TopK):
        asks_supernet = True

        def conclude(self, search):
            search.weights[0].data.view(-1)[0] = nan

    task = start(darts(epochs=1, batch=4, select=Spoils()))
    fit_loop(task, task.recipe.length, Session())
    with pytest.raises(
        Diverged, match=r"stem.0.weight is not finite \(1 of 54 values is nan\) after the selection of the cell"
    ):
        task.conclude()


def test_an_accuracy_of_outputs_that_are_not_finite_is_no_accuracy():
    task = start(darts(epochs=1, batch=4))
    assert 0 <= task.accuracy(task.alive) <= 1
    with torch.no_grad():
        task.weights[-1].fill_(nan)
    with pytest.raises(Diverged, match="the val loss became nan under a part of the supernet"):
        task.accuracy(task.alive)


def test_a_sound_search_is_left_alone():
    task = start(darts(epochs=1, batch=4), small())
    fit_loop(task, task.recipe.length, Session())
    assert {"logits.normal", "logits.reduce", "stem.1.running_var", "head.2.bias"} <= task.tensors().keys()


# --- language models --------------------------------------------------------------------------------------------------

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"


def language(session=None, **fields):
    made = LanguageRecipe(**{**dict(width=4, batch=2, bptt=5, epochs=2, w=PlainSgd(lr=1.0)), **fields})
    return LanguageTraining(CELL, made, text(), seed=0, engine=Engine("cpu"), title="t")


@pytest.mark.parametrize(("loss", "says"), [(nan, "val loss became nan"), (800.0, "val ppl became inf")])
def test_a_validation_of_text(loss, says, monkeypatch):
    monkeypatch.setattr(language_trainer, "cross_entropy", lambda *args: loss)
    error, session = search(language())
    assert str(error).startswith(f"the {says} after step ") and session.history == []


TESTED = [(nan, "test loss became nan"), (inf, "test loss became inf"), (709.5, "test ppl became inf")]


@pytest.mark.parametrize(("loss", "says"), TESTED)
def test_a_test_of_text(loss, says, monkeypatch):
    task = language()
    fit_loop(task, task.recipe.length, Session())
    assert math.isfinite(task.conclude()["test_ppl"])
    monkeypatch.setattr(language_trainer, "cross_entropy", lambda *args: loss)
    with pytest.raises(Diverged, match=f"the {says} with the best weights"):
        task.conclude()


def test_averages_of_a_language_model(monkeypatch):
    task = language(patience=1, epochs=4)
    task.trigger = lambda loss: True  # averaging begins after the first epoch
    last = []

    def spoil(task):
        last.append(task.average is not None and task.average.count)
        if task.average is not None:
            task.average.means[0].view(-1)[0] = nan

    per_epoch = task.per_epoch()
    after_step(monkeypatch, LanguageTraining, per_epoch + 1, spoil)
    error, session = search(task)
    assert last == [1] and "the average of " in str(error) and "(epoch 2)" in str(error)
    assert len(session.history) == 1


# --- the checks themselves --------------------------------------------------------------------------------------------


def test_what_another_process_found_ends_this_one_too():
    sound = {"w": torch.zeros(2)}
    asked = []

    def agree(found):
        asked.append(found)
        return True

    with pytest.raises(Diverged, match="a tensor of another rank is not finite after step 4, "):
        check_tensors(sound, "after step 4", 4, 0.1, agree)
    check_tensors(sound, "after step 4")
    assert asked == [False]


def test_what_a_record_may_hold():
    check_numbers({"epoch": 1, "val_loss": 1e30, "genotype": "nan", "edges": None, "flag": True, "list": [nan]}, "now")
    with pytest.raises(Diverged, match=r"^the entropy reduce became nan now; try a smaller learning rate"):
        check_numbers({"entropy": {"normal": 1.0, "reduce": nan}}, "now")
