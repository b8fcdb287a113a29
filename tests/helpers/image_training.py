"""Trainings of a tiny cell on tiny images, whose steps can be written out."""

import torch

import oche
from oche.core.optimizers import Sgd
from oche.devices.engine import Engine
from oche.training.image_recipes import Recipe
from oche.training.image_trainer import Training
from tiny_images import dataset

NORMAL = [("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 0), ("dil_conv_3x3", 2)], [2, 3]
REDUCE = [("skip_connect", 0), ("sep_conv_3x3", 1), ("skip_connect", 2), ("avg_pool_3x3", 1)], [3]
CELL = oche.Genotype.parse(
    f"Genotype(normal={NORMAL[0]}, normal_concat={NORMAL[1]}, reduce={REDUCE[0]}, reduce_concat={REDUCE[1]})"
)
DOUBLE = Engine("cpu", dtype=torch.float64)
W = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5)
PLAIN = dict(drop_path=0.0, auxiliary=0.0)


def recipe(**fields):
    return Recipe(**{**dict(channels=2, cells=3, w=W, batch=6, epochs=2), **fields})


def make(recipe, data=None, engine=DOUBLE, seed=0):
    return Training(CELL, recipe, data or dataset(), seed=seed, engine=engine, title="t")


def steps(task, count, total):
    for step in range(count):
        if step % task.per_epoch() == 0:
            task.begin(step // task.per_epoch(), 0)
        task.step(step, step / total)
        yield step


def cross_entropy(logits, labels, smoothing):
    """−Σ_c q_c log p_c with q = (1 − s) · one-hot + s / classes."""
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    q = torch.full_like(p, smoothing / p.shape[1])
    q[range(len(labels)), labels] += 1 - smoothing
    return -(q * p.log()).sum(1).mean()


def same(one, other):
    pairs = zip(one.net.state_dict().values(), other.net.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
