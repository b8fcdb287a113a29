"""Time of one search step, by upper gradient and memory layout; all variants in one process, in turn.

    python benchmarks/step.py --space seed --batch 64
    python benchmarks/step.py --space darts --batch 16 --repeats 5

Random images stand in for data: their values do not matter to the time. Absolute times hold for the machine they were taken
on; compare ratios.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import tyro

import oche
from oche.bilevel import Search
from oche.data import Augment, Dataset, Resident
from oche.hypergrad import FiniteDifference, HyperGradient, exact, first_order
from oche.run.engine import Engine
from oche.run.environment import environment
from oche.spaces import SPACES

GRADIENTS: dict[str, HyperGradient] = {"first order": first_order, "second order": FiniteDifference(), "exact": exact}


@dataclass(frozen=True)
class Setting:
    space: str = "darts"
    """darts, seed or nb201"""
    batch: int = 16
    """images in a batch"""
    repeats: int = 3
    """timed steps of each variant, after one that is not"""
    gradients: tuple[str, ...] = ("first order", "second order")
    """upper gradients to time: first order, second order, exact"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int = 0
    """CPU threads; 0: torch's own choice"""


class Rowwise(Engine):
    """The plain layout (NCHW), to compare with channels_last."""

    def place(self, net):
        return net.to(device=self.device, dtype=self.dtype)

    def images(self, x):
        return x.to(device=self.device, dtype=self.dtype).contiguous()


def images(count: int) -> Dataset:
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=g)
    split = Resident(x, torch.randint(0, 10, (count,), generator=g))
    return Dataset("random", split, None, tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, Augment())


def main(setting: Setting) -> None:
    data = images(2 * setting.batch * (2 * setting.repeats + 4))
    variants = {}
    for layout, kind in (("channels_last", Engine), ("plain", Rowwise)):
        for name in setting.gradients:
            method = oche.methods.darts(hypergrad=GRADIENTS[name], batch=setting.batch)
            engine = kind(setting.device, setting.threads)
            task = Search(SPACES[setting.space](), method, data, seed=0, engine=engine)
            task.begin(0, 0)
            variants[layout, name] = task, engine
    times = {key: [] for key in variants}
    for step in range(setting.repeats + 1):
        for key, (task, engine) in variants.items():
            with engine.running():
                began = time.perf_counter()
                task.step(step, 0.5)
                if engine.device.type == "cuda":
                    torch.cuda.synchronize(engine.device)
                times[key].append(time.perf_counter() - began)
    report(setting, {key: values[1:] for key, values in times.items()})


def report(setting: Setting, times: dict[tuple[str, str], list[float]]) -> None:
    e = environment(setting.device)
    print(f"{e.get('gpu') or e['cpu']}, {e['threads']} threads, torch {e['torch']}, commit {e['commit']}, {e['time']}")
    print(f"space {setting.space}, batch {setting.batch}, n = {setting.repeats} steps each; median (min–max) in s\n")
    print("| layout | upper gradient | s per step | × plain first order |\n| --- | --- | --- | --- |")
    base = statistics.median(times["plain", setting.gradients[0]])
    for (layout, name), values in times.items():
        middle = statistics.median(values)
        print(
            f"| {layout} | {name} | {middle:.2f} ({min(values):.2f}–{max(values):.2f}) | {middle / base:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Setting, description=__doc__))
