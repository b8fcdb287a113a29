"""Times of real steps on this machine, for the planner."""

from __future__ import annotations

import time
from statistics import median
from typing import Protocol

from oche.bilevel.search import Search
from oche.core.genotypes import resolve
from oche.core.memory import release_unused_memory
from oche.cost import flops, parameters
from oche.data import Dataset
from oche.devices.engine import Engine
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training

LEAST_SECONDS, MOST_STEPS = 0.6, 12  # of one timing, after a first step that is not counted
PROGRESS = 0.5  # progress of the timed steps: after all warm-ups


class Steps(Protocol):
    """A training or a search, of which single steps can be timed."""

    def begin(self, epoch: int, position: int) -> None: ...
    def step(self, step: int, progress: float) -> None: ...
    def per_epoch(self) -> int: ...


def time_steps(task: Steps) -> float:
    """Return the median seconds of a step of ``task``. The task is of no use afterwards."""
    times: list[float] = []
    steps = 0
    while len(times) < 3 or (sum(times) < LEAST_SECONDS and len(times) < MOST_STEPS):
        if steps % task.per_epoch() == 0:
            task.begin(steps // task.per_epoch(), 0)
        began = time.perf_counter()
        task.step(steps, PROGRESS)
        if steps:  # the first step prepares kernels and memory
            times.append(time.perf_counter() - began)
        steps += 1
    release_unused_memory()
    return median(times)


def time_training(genotype: str, recipe: Recipe, data: Dataset, engine: Engine) -> tuple[float, int, int]:
    """Return (seconds of a step, weights, FLOPs of an image) of the training of ``genotype`` by ``recipe``."""
    with engine.using_threads():
        task = Training(resolve(genotype), recipe, data, seed=0, engine=engine, title="timing")
        image = task.blank(1)
        size = parameters(task.net), flops(task.net.eval(), lambda: task.net(image))
        return (time_steps(task), *size)


def time_search(space: Space, recipe: SearchRecipe, data: Dataset, engine: Engine) -> float:
    """Return the seconds of a step of a search."""
    with engine.using_threads():
        return time_steps(Search(space, recipe, data, seed=0, engine=engine))
