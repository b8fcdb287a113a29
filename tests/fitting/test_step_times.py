"""Times of steps: measured once, and kept between fits; the search that they belong to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oche.core.optimizers import Adam
from oche.devices.engine import Engine
from oche.fitting import forms, kept_times, step_times
from oche.fitting.kept_times import KeptTimes
from oche.fitting.step_times import Timings, search_setting
from tiny_images import dataset

ENGINE = Engine("cpu")


def test_logits_can_move_as_far_in_every_search():
    """Adam moves a logit by its learning rate in a step at most: 500 steps of 0.012 are 6."""
    _, recipe = search_setting("cifar", dataset(), 16, steps=500)
    optimizer = recipe.method.arch_optimizer
    assert isinstance(optimizer, Adam) and optimizer.lr * 500 == pytest.approx(6)
    _, long = search_setting("cifar", dataset(), 16, steps=100_000)
    assert long.method.arch_optimizer.lr == Adam().lr


def test_each_step_is_timed_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_times, "cache_folder", lambda: tmp_path)
    timed = []

    def training(genotype, recipe, data, engine):
        timed.append((recipe.channels, recipe.precision, engine.fused))
        return 0.25, 100, 1000

    for module in (step_times, forms):
        monkeypatch.setattr(module, "time_training", training)
    data = dataset()
    times = Timings(data, ENGINE, KeptTimes(data, ENGINE), "float32")
    found = times.network("RESNET", 24, 1, "cifar", 16)
    assert (found.step_seconds, found.parameters, found.flops) == (0.25, 100, 1000)
    assert timed == [(16, "float32", "auto"), (16, "float32", "plain"), (24, "float32", "auto")]
    again = Timings(data, ENGINE, KeptTimes(data, ENGINE), "float32")
    assert again.network("RESNET", 24, 1, "cifar", 16) == found and len(timed) == 3 and again.kept.used
    wide = replace(data, classes=(*data.classes, "one more"))  # another head, so another step
    Timings(wide, ENGINE, KeptTimes(wide, ENGINE), "float32").network("RESNET", 24, 1, "cifar", 16)
    assert len(timed) == 6
