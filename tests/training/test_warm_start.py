"""Warm starts: what is taken, what starts anew, and how fast taken weights move."""

from __future__ import annotations

import copy

import pytest
import torch

from image_training import CELL, DOUBLE, W, recipe, same, steps
from oche.core.errors import OcheError
from oche.networks.build import build
from oche.training.image_trainer import Training
from oche.training.warm_start import plan_warm_start
from tiny_images import dataset

SIZES = dict(channels=2, cells=3)


def pair(**other):
    torch.manual_seed(0)
    return build(CELL, **{**SIZES, "classes": 3, **other}), build(CELL, **SIZES, classes=3)


def test_everything_of_the_same_size_is_taken_and_the_classifier_by_its_classes():
    source, net = pair()
    both = plan_warm_start(net, source.state_dict(), "x", same_classes=True)
    assert both.new == () and set(both.tensors) == {n for n, t in net.state_dict().items() if t.is_floating_point()}
    both.load_into(net)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), source.parameters(), strict=True))
    other = plan_warm_start(net, source.state_dict(), "x", same_classes=False)
    assert other.new == ("head.2.weight", "head.2.bias")


def test_other_numbers_of_classes_start_the_head_anew_and_say_so():
    source, net = pair(classes=5)
    warm = plan_warm_start(net, source.state_dict(), "runs/x", same_classes=False)
    assert warm.new == ("head.2.weight", "head.2.bias")
    said = warm.describe(net)
    share = (
        100
        * sum(t.numel() for t in warm.tensors.values())
        / sum(t.numel() for t in net.state_dict().values() if t.is_floating_point())
    )
    assert said == f"{share:.0f} % of the weights come from runs/x; new: head.2"


def test_a_stem_for_colours_is_summed_for_grey_images():
    source, _ = pair()
    grey = build(CELL, **SIZES, classes=3, in_channels=1)
    warm = plan_warm_start(grey, source.state_dict(), "x", same_classes=True)
    warm.load_into(grey)
    x = torch.randn(2, 1, 9, 9)
    torch.testing.assert_close(grey.eval()(x), source.eval()(x.expand(2, 3, 9, 9)), rtol=1e-4, atol=1e-5)


def test_networks_that_share_nothing_are_refused():
    source, net = pair(channels=3)
    only_wide = {
        n: t
        for n, t in source.state_dict().items()
        if n not in net.state_dict() or t.shape != net.state_dict()[n].shape
    }
    with pytest.raises(OcheError, match=r"no weight of runs/x fits the network"):
        plan_warm_start(net, only_wide, "runs/x", same_classes=True)


def test_weights_that_are_no_numbers_are_refused():
    source, net = pair()
    given = source.state_dict() | {
        "cells.0.preprocess0.1.weight": torch.full_like(source.state_dict()["cells.0.preprocess0.1.weight"], torch.nan)
    }
    with pytest.raises(OcheError, match=r"x cannot start a training: cells\.0\.preprocess0\.1\.weight is not finite"):
        plan_warm_start(net, given, "x", same_classes=True)


def warm_training(**fields):
    data = dataset()
    made = recipe(**fields)
    source = Training(CELL, made, data, seed=7, engine=DOUBLE, title="s")
    net = made.network(CELL, data)
    warm = plan_warm_start(net, source.net.state_dict(), "s", same_classes=False)
    return Training(CELL, made, data, seed=0, engine=DOUBLE, title="t", warm=warm), source, warm


def test_taken_weights_stay_fixed_while_frozen_and_then_move():
    task, source, warm = warm_training(freeze=0.5)
    given = dict(source.net.named_parameters())
    for step in steps(task, 4, 4):
        moved = {n for n, w in task.net.named_parameters() if n in warm.tensors and not torch.equal(w, given[n])}
        assert bool(moved) == (step >= 2)
    assert len(moved) == len(task.taken)


def test_taken_weights_move_at_their_share_of_the_rate():
    """One step of plain SGD: the change of a taken weight is a tenth of that at the full rate, a new one's is the same."""
    plain = W.__class__(lr=0.1, lr_min=0.1, momentum=0.0, decay=0.0, clip=0.0)
    changes = []
    for share in (1.0, 0.1):
        task, _, warm = warm_training(taken_lr=share, w=plain)
        before = {n: w.detach().clone() for n, w in task.net.named_parameters()}
        next(steps(task, 1, 4))
        changes.append({n: w.detach() - before[n] for n, w in task.net.named_parameters()})
    for name, change in changes[0].items():
        want = 0.1 * change if name in warm.tensors else change
        torch.testing.assert_close(changes[1][name], want, rtol=1e-9, atol=1e-12)


def test_state_goes_on_with_groups_of_its_own():
    task, _, _ = warm_training(taken_lr=0.1)
    again, _, _ = warm_training(taken_lr=0.1)
    list(steps(task, 2, 4))
    again.load(copy.deepcopy(task.state()))
    task.begin(1, 0), again.begin(1, 0)
    task.step(2, 0.5), again.step(2, 0.5)
    assert same(task, again)
