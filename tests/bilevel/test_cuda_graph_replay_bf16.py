"""Replayed steps in bfloat16 against eager ones, by a stand-in for CUDA graphs: weights are cast anew in every step."""

import pytest
import torch

from oche.bilevel.cuda_graph_replay import replay
from oche.bilevel.search import Search
from oche.core.optimizers import Adam, Sgd
from oche.devices.engine import Engine
from oche.kernels.cuda_graphs import WARM_UP_STEPS
from oche.methods.hypergradients import exact, first_order, joint
from oche.methods.recipe import SearchRecipe
from oche.spaces import nb201
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training
from recorded_graphs import Tape
from tiny_images import dataset, space

STEPS = WARM_UP_STEPS + 3
W = Sgd(lr=0.05, momentum=0.9, decay=0.01, clip=2.0)
CELL = nb201().random(torch.Generator().manual_seed(0))


def search(hypergrad):
    made = SearchRecipe(
        hypergrad=hypergrad,
        weight_optimizer=W,
        arch_optimizer=Adam(lr=0.05, init=0.1),
        batch=6,
        steps=STEPS,
        precision="bf16",
    )
    return Search(space(), made, dataset(), seed=0, engine=Engine("cpu"))


def training():
    recipe = Recipe(channels=2, cells=1, w=W, batch=6, steps=STEPS, drop_path=0.0, auxiliary=0.0, precision="bf16")
    return Training(CELL, recipe, dataset(), seed=0, engine=Engine("cpu", fused="plain"), title="t")


def run(task):
    for step in range(STEPS):
        if step % task.per_epoch() == 0:
            task.begin(step // task.per_epoch(), 0)
        task.step(step, step / STEPS)
    return flat(task)


def flat(task):
    """All that moves, as one vector."""
    return torch.cat([w.detach().flatten() for w in (*task.weights, *getattr(task, "logits", ()))])


def made(kind):
    return training() if kind == "training" else search({"exact": exact, "joint": joint}.get(kind, first_order))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["training", "first order", "exact", "joint"])
def test_replayed_steps_are_the_eager_ones(kind):
    stock, taped, tape = made(kind), made(kind), Tape()
    begun = flat(stock)
    assert replay(taped, pytest.fail, tape)
    eager, replayed = run(stock), run(taped)
    assert (tape.recorded, tape.replayed) == (1, STEPS - WARM_UP_STEPS)
    # Torch's fused optimisers round in another order, and bfloat16 makes more of it.
    assert (replayed - eager).norm() < 0.02 * (eager - begun).norm()
