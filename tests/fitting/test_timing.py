"""Times of steps: the median, without the first; and those of real tasks, with their sizes."""

from __future__ import annotations

import time

import pytest

from oche.cost import parameters
from oche.devices.engine import Engine
from oche.fitting import timing
from oche.fitting.step_times import search_setting
from oche.networks.build import build
from oche.training.image_recipes import modern
from tiny_images import dataset


class Steps:
    """Steps that take a second at first, then 0.1 s, and once 3 s; the clock is the test's."""

    def __init__(self, clock):
        self.clock, self.begun, self.done = clock, [], 0

    def per_epoch(self):
        return 2

    def begin(self, epoch, position):
        self.begun.append((epoch, position))

    def step(self, step, progress):
        assert step == self.done and progress == 0.5
        self.clock[0] += {0: 1.0, 3: 3.0}.get(step, 0.1)
        self.done += 1


def test_the_time_is_the_median_without_the_first_step(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    steps = Steps(clock)
    assert timing.time_steps(steps) == pytest.approx(0.1)
    assert steps.done == 4 and steps.begun == [(0, 0), (1, 0)]  # three counted steps take 3.2 s, more than enough


def test_quick_steps_are_repeated(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    steps = Steps(clock)
    steps.step = lambda step, progress: clock.__setitem__(0, clock[0] + 0.001)
    assert timing.time_steps(steps) == pytest.approx(0.001)


def test_real_steps_have_times_and_sizes(monkeypatch):
    monkeypatch.setattr(timing, "MOST_STEPS", 3)
    data, engine = dataset(), Engine("cpu", threads=1)
    recipe = modern(channels=2, cells=1, batch=6)
    seconds, weights, flops = timing.time_training("RESNET", recipe, data, engine)
    net = build("RESNET", classes=len(data.classes), channels=2, cells=1, in_channels=data.channels)
    assert 0 < seconds < 5 and weights == parameters(net) and flops > 1000
    space, method = search_setting("cifar", data, 6)
    assert 0 < timing.time_search(space, method, data, engine) < 30
