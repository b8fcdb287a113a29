"""Searches whose steps are recorded and replayed, and what tells them from eager ones."""

import copy
from dataclasses import replace

import torch

from oche.bilevel.search import Search
from oche.core.optimizers import Adam, Sgd
from oche.devices.engine import Engine
from recorded_graphs import Recorder
from tiny_images import dataset, space

DOUBLE = Engine("cpu", dtype=torch.float64, fused="plain")
W, A = Sgd(lr=0.1, lr_min=0.01, momentum=0.9, decay=0.01, clip=0.5), Adam(lr=0.02, decay=0.05, init=0.1)
STEPS = 6


def run(task, steps=range(STEPS), narrow=None):
    per_epoch = task.per_epoch()
    for step in steps:
        if step % per_epoch == 0:
            task.begin(step // per_epoch, 0)
        if narrow and step in narrow:
            narrow[step](task)
        task.step(step, step / STEPS)
    return task


def state(task):
    """Everything that steps change, as flat float64 by name."""
    s = task.state()
    w = {f"net.{k}": v for k, v in s["net"].items()} | {f"logits.{k}": v for k, v in s["logits"].items()}
    for opt in ("w_opt", "a_opt"):
        for i, values in s[opt]["state"].items():
            w |= {f"{opt}.{i}.{k}": v for k, v in values.items() if v is not None}
    w |= {f"meter.{k}": m.sums for k, m in task.meters.items()}
    return {k: v.detach().double().clone() for k, v in w.items()}


def differing(one, other, rtol=0.0):
    assert one.keys() == other.keys()
    return [k for k in one if not torch.allclose(one[k], other[k], rtol=rtol, atol=rtol)]


def silent(message):
    raise AssertionError(message)


def _settle_one(task):
    alive = {name: mask.clone() for name, mask in task.alive.items()}
    alive["normal"][0, 1] = False
    task._narrow(alive)


def _grow(task):
    object.__setattr__(task.recipe, "batch", 4)
    task.begin(3, 0)


def _reload(task):
    task.load(copy.deepcopy(task.state()))


def _move(task):
    object.__setattr__(task.method, "warmup", 0.0)


CHANGES = {_settle_one: {}, _grow: {}, _reload: {}, _move: dict(warmup=0.7)}


class Crossing(Recorder):
    """Refuses what moves data between the host and the device, which the device "meta" stands for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("_to_copy", "copy_"):
            tensors = [t for t in (*args, out) if isinstance(t, torch.Tensor)]
            assert len({t.device.type for t in tensors}) == 1, f"{func} between {[t.device for t in tensors]}"
        return out


def make(method, engine=DOUBLE):
    method = replace(
        method,
        arch_optimizer=A,
        batch=6,
        steps=STEPS,
        weight_optimizer=W if method.method.weight_optimizer.clip else method.method.weight_optimizer,
    )
    return Search(space(nodes=1), method, dataset(), seed=0, engine=engine)
