"""Training against the same steps written out in float64; drop path, schedules, evaluation, recipes."""

import math
from dataclasses import replace

import pytest
import torch

import oche
from image_training import CELL, NORMAL, PLAIN, REDUCE, W, cross_entropy, make, recipe, same, steps
from oche.bilevel.search import Search
from oche.core.seeds import derive_seed
from oche.data import halves
from oche.devices.engine import Engine
from oche.training.image_trainer import train
from oche.training.loop import Session, fit_loop
from oracles_conv import Weights, final
from tiny_images import Kept, dataset, marked, marks, plain

EXTRAS = dict(drop_path=0.4, auxiliary=0.3, label_smoothing=0.2, cutout=3)


@pytest.mark.parametrize("extras", [EXTRAS, PLAIN], ids=["all extras", "plain"])
def test_steps_are_those_written_out(extras, batches):
    images, labels = batches
    task = make(recipe(**extras), dataset(side=32))
    w = [p.detach().clone() for p in task.weights]
    buffers = [torch.zeros_like(p) for p in w]
    clipped = 0
    for step in steps(task, 3, 4):
        x, y, aux = images[-1].double(), labels[-1], extras["auxiliary"] > 0
        leaves = [p.clone().requires_grad_() for p in w]
        torch.manual_seed(derive_seed(0, "drop path", step))
        logits, extra = final(x, Weights(leaves), NORMAL, REDUCE, cells=3, aux=aux, drop=extras["drop_path"] * step / 4)
        smoothing = extras.get("label_smoothing", 0.0)
        main = cross_entropy(logits, y, smoothing)
        total = main + (extras["auxiliary"] * cross_entropy(extra, y, smoothing) if aux else 0)
        slope = torch.autograd.grad(total, leaves)
        norm = math.sqrt(sum((g**2).sum().item() for g in slope))
        clipped += norm > W.clip
        rate = 0.01 + 0.09 * (1 + math.cos(math.pi * step / 4)) / 2
        for i, g in enumerate(slope):
            buffers[i] = 0.9 * buffers[i] + g * min(1.0, W.clip / (norm + 1e-6)) + 0.01 * w[i]
            w[i] = w[i] - rate * buffers[i]
        for got, want in zip(task.weights, w, strict=True):
            torch.testing.assert_close(got.detach(), want, rtol=1e-8, atol=1e-11)
        # the meter shows the main loss alone, smoothed as it is trained
        shown, task.meters["train"].sums = task.meters["train"].means()[0], torch.zeros(3, dtype=torch.float64)
        assert shown == pytest.approx(main.item(), rel=1e-9)
    assert clipped


# --- drop path


def test_identities_are_exempt_and_evaluation_is_too():
    text = "Genotype(normal=[('skip_connect', 0), ('{}', 1)], normal_concat=[2])"
    x = torch.randn(16, 3, 8, 8)
    for op, exempt in (("skip_connect", True), ("avg_pool_3x3", False)):
        net = oche.build(text.format(op), classes=2, channels=2, cells=2, reductions=(), drop_path=0.9)
        dropped = net(x)
        net.set_drop_path(0.0)
        assert torch.equal(dropped, net(x)) == exempt
        net.set_drop_path(0.9)
        net.eval()
        assert torch.equal(net(x), net(x))


def test_drop_path_rises_linearly(batches):
    task = make(recipe(drop_path=0.4, auxiliary=0.0, epochs=2))
    seen = []
    set_drop_path = task.net.set_drop_path
    task.net.set_drop_path = lambda p: (seen.append(p), set_drop_path(p))
    fit_loop(task, task.recipe.length, Session())
    assert seen == pytest.approx([0.4 * i / 8 for i in range(8)])


def test_each_step_drops_anew_but_the_same_again():
    data, extras = dataset(), recipe(drop_path=0.5, auxiliary=0.0)
    one, again, other = make(extras, data), make(extras, data), make(extras, data)
    for task, step in ((one, 1), (again, 1), (other, 2)):
        task.begin(0, 1)
        torch.manual_seed(len(str(task)))
        task.step(step, 0.9)
    w = [torch.cat([p.flatten() for p in task.weights]) for task in (one, again, other)]
    assert torch.equal(w[0], w[1]) and not torch.equal(w[0], w[2])


# --- runs


def run(start=None, seed=0, data=None, **fields):
    session = Kept(start)
    extras = {**EXTRAS, "cutout": 4, **fields}
    task, clock = train(CELL, recipe(**extras), data or dataset(), seed=seed, engine=Engine("cpu"), session=session)
    return task, clock, session


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    one, clock, session = run()
    assert torch.equal(torch.get_rng_state(), before) and clock.step == 8
    torch.manual_seed(5)
    again, _, other_session = run()
    assert same(one, again) and plain(session.history) == plain(other_session.history)
    assert not same(one, run(seed=1)[0])


def test_going_on_from_any_step_gives_the_same_bits():
    task, _, session = run()
    for state in session.states[:-1:2]:
        again, _, resumed = run(state)
        assert same(task, again) and plain(resumed.history) == plain(session.history)


def test_records():
    _, _, session = run()
    assert [r["epoch"] for r in session.history] == [1, 2] and session.history[-1]["progress"] == 1
    assert session.history[-1]["lr"] == pytest.approx(0.01)
    for record in session.history:
        assert {"train_loss", "train_acc", "test_loss", "test_acc"} <= set(record)
        assert 0 <= record["test_acc"] <= 1


def test_tests_every_so_often_and_at_the_end():
    tested = lambda **fields: ["test_acc" in r for r in run(**PLAIN, **fields)[2].history]  # noqa: E731
    assert tested(epochs=5, evaluate=2) == [False, True, False, True, True]
    assert tested(epochs=3, evaluate=9) == [False, False, True]
    assert tested(steps=6, evaluate=9) == [False, True]


def test_data_without_a_test_part():
    assert all("test_acc" not in r for r in run(data=replace(dataset(), test=None))[2].history)


def test_a_split_holds_out_the_validation_half_of_a_search_with_the_same_seed():
    task = make(recipe(split=0.5, batch=4, **PLAIN), marked(20), Engine("cpu"), seed=3)
    _, val_half = halves(task.data.train, 0.5, derive_seed(3, "halves"))
    assert torch.equal(task.held_split.gather(torch.arange(10))[0], val_half.gather(torch.arange(10))[0])
    search = Search(
        oche.spaces.darts(channels=2, cells=3, nodes=1, classes=3, in_channels=1, image=(8, 8)),
        oche.methods.darts(), task.data, seed=3, engine=Engine("cpu"),
    )  # fmt: skip
    for ours, theirs in ((task.train_split, search.feed.train), (task.held_split, search.feed.val)):
        assert torch.equal(ours.gather(torch.arange(10))[0], theirs.gather(torch.arange(10))[0])
    session = Session()
    fit_loop(task, task.recipe.length, session)
    assert "val_acc" in session.history[-1] and "test_acc" not in session.history[-1]


def test_epochs_take_every_image_once_in_a_new_order_with_new_crops_and_holes(batches):
    images, _ = batches
    task = make(recipe(**{**EXTRAS, "cutout": 2, "batch": 5}), marked(20), Engine("cpu"))
    for _ in steps(task, 8, 8):
        pass
    first, second = images[:4], images[4:]
    orders = [[m for x in epoch for m in marks(x)] for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20)) and orders[0] != orders[1]
    pictures = [{m: img for x in epoch for m, img in zip(marks(x), x, strict=True)} for epoch in (first, second)]
    assert sum(not torch.equal(pictures[0][m], pictures[1][m]) for m in range(20)) >= 17


def test_crops_and_holes_belong_to_the_step(batches):
    images, _ = batches
    for step in (3, 3, 4):
        task = make(recipe(**{**EXTRAS, "batch": 5, "cutout": 4}), marked(20), Engine("cpu"))
        task.begin(0, 0)
        task.step(step, 0.0)
    one, again, other = images
    assert marks(one) == marks(other) and torch.equal(one, again)
    assert sum(not torch.equal(a, b) for a, b in zip(one, other, strict=True)) >= 4


def test_training_learns():
    task = make(recipe(epochs=12, batch=12, channels=4, **PLAIN), dataset(60), Engine("cpu"))
    session = Session()
    fit_loop(task, task.recipe.length, session)
    assert session.history[-1]["test_acc"] >= 0.9
