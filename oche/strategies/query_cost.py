"""The seconds of training that a query of a NAS-Bench-201 table stands for, estimated from five timed cells.

A table answers in microseconds. The answer is the result of twelve epochs of training, and those are what a search without
the table would pay. So costs of table queries are estimated, and marked so wherever they are shown.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.environment import cpu_model
from oche.core.nasbench201 import EDGES, OPERATIONS
from oche.cost.breakdown import final_network
from oche.devices.engine import Engine
from oche.spaces.nasbench201 import NB201Space

_OPERATION = re.compile(r"(\w+)~")  # in the text of a cell
EPOCHS = 12  # of the columns of validation accuracies
TRAINED_ON = {"cifar10": (25_000, 32, 10), "cifar100": (50_000, 32, 100), "imagenet16": (151_700, 16, 120)}
"""images, their side and classes of the benchmark's trainings, by data set (2001.00326 §2.2)"""


@dataclass(frozen=True)
class QueryCost:
    """Seconds of the training of a cell: ``fixed``, plus those of the operation on each edge."""

    fixed: float
    operations: Mapping[str, float]
    source: str
    """what was timed, in words"""

    def __call__(self, arch: str) -> float:
        """Return the seconds of the training of the cell with this text."""
        return self.fixed + sum(self.operations[op] for op in _OPERATION.findall(arch))

    @property
    def mean(self) -> float:
        """The seconds of a uniformly random cell."""
        return self.fixed + len(EDGES) * statistics.fmean(self.operations.values())


def evenly(seconds: float) -> QueryCost:
    """Return the cost of trainings that all take ``seconds``."""
    return QueryCost(seconds, dict.fromkeys(OPERATIONS, 0.0), f"given: {seconds:g} s a training")


def timed_cost(
    data: str, engine: Engine, *, batch: int = 32, steps: int = 3, space: NB201Space | None = None
) -> QueryCost:
    """Time steps of training of the five cells that have one operation on all edges, at published size.

    ``data``: the beginning of a column's name, cifar10, cifar100 or imagenet16. The median of ``steps`` steps counts, after one
    that is not timed. They are steps of SGD on random images in float32, with plain modules.
    """
    images, side, classes = TRAINED_ON[data]
    space = space or NB201Space(classes=classes, image=(side, side))
    moves = BenchmarkMoves(OPERATIONS)
    with engine.using_threads():
        seconds = {
            op: EPOCHS * images / batch * _step_seconds(space, moves.build((o,) * len(EDGES)), engine, batch, steps)
            for o, op in enumerate(OPERATIONS)
        }
    fixed = seconds["none"]
    operations = {op: max(0.0, (s - fixed) / len(EDGES)) for op, s in seconds.items()}
    device = cpu_model() or "CPU" if engine.device.type == "cpu" else torch.cuda.get_device_name(engine.device)
    said = f"{steps} steps of {batch} images of five cells on {device}, times {EPOCHS} epochs of {images:,} images"
    return QueryCost(fixed, operations, said)


def _step_seconds(space: NB201Space, genotype, engine: Engine, batch: int, steps: int) -> float:
    with engine.seeded(0):
        net = engine.place(final_network(space, genotype)).train()
    g = torch.Generator().manual_seed(0)
    x = engine.images(torch.randn(batch, space.in_channels, *space.image, generator=g))
    y = torch.randint(space.classes, (batch,), generator=g).to(engine.device)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    times = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        sgd.zero_grad()
        out = net(x)
        F.cross_entropy(out[0] if isinstance(out, tuple) else out, y).backward()
        sgd.step()
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
