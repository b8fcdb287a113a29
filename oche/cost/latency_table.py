"""Measured times of the parts of networks, with the hardware they were measured on, stored as JSON and reused by
searches.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import sha1
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from oche.core import atomic_files as atomic
from oche.core.environment import describe_environment
from oche.core.errors import OcheError
from oche.core.seeds import generator
from oche.cost.breakdown import final_network
from oche.cost.expected_cost import CostModel, cost_model
from oche.cost.module_cost import Timing, time_function
from oche.devices.engine import Engine
from oche.spaces.base import Space

WHOLE = 3  # number of whole networks to measure
_FORMAT = "oche latencies 1"


def describe_hardware(engine: Engine) -> dict[str, Any]:
    """Return what a time depends on (hardware, threads, versions) and the time of the measurement."""
    found = describe_environment(engine.name)
    gpu = engine.device.type == "cuda"
    return {
        "hardware": found["gpu"] if gpu else found["cpu"] or "unknown",
        "device": engine.device.type,
        "threads": engine.threads or found["threads"],
        "torch": found["torch"],
        "oche": found["oche"],
        "platform": found["platform"],
        "time": found["time"],
    }


_SAME = ("hardware", "device", "threads", "torch")  # these must agree for times to be comparable


@dataclass
class LatencyTable:
    """Maps the key of a part to its time on ``batch`` images, in milliseconds. A `oche.cost.expected_cost.Measure`.

    With an ``engine``, missing times are measured and kept. Without one they raise `OcheError`.
    """

    about: dict[str, Any]
    batch: int = 1
    entries: dict[str, Timing] = field(default_factory=dict)
    engine: Engine | None = None
    each: Callable[[str], None] = lambda key: None
    """called with the key before every measurement"""

    @classmethod
    def fresh(cls, engine: Engine, batch: int = 1) -> LatencyTable:
        """Return an empty table that measures on ``engine``."""
        return cls(describe_hardware(engine), batch, engine=engine)

    @classmethod
    def open(cls, path: Path) -> LatencyTable:
        """Return the table stored at ``path``. Raises `OcheError` if there is none."""
        if not path.is_file():
            raise OcheError(f"there is no table of latencies at {path}; measure one: oche cost --table {path}")
        found = atomic.read_json(path)
        try:
            if found["format"] != _FORMAT:
                raise ValueError(found["format"])
            entries = {str(key): Timing(**timing) for key, timing in found["entries"].items()}
            return cls(dict(found["about"]), int(found["batch"]), entries)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise OcheError(f"{path} is no table of latencies; measure one: oche cost --table FILE") from None

    def write(self, path: Path) -> None:
        """Store the table at ``path``."""
        entries = {key: asdict(timing) for key, timing in self.entries.items()}
        tree = {"format": _FORMAT, "about": self.about, "batch": self.batch, "unit": "ms", "entries": entries}
        atomic.write_bytes(path, json.dumps(tree, indent=1).encode())

    def __call__(self, key: str, module: nn.Module, x: Tensor) -> float:
        return self.of(key, module, x).median

    def of(self, key: str, module: nn.Module, x: Tensor) -> Timing:
        """Return the time of ``module`` on a batch of images like ``x`` (1, C, H, W). Raises `OcheError` if it is
        missing.
        """
        if key not in self.entries:
            if self.engine is None:
                raise OcheError(
                    f"the table of latencies has no {key!r}; measure one for this space and size: "
                    "oche cost --table FILE --space NAME --recipe NAME --image SIDE --classes N"
                )
            self.each(key)
            self.entries[key] = measure_latency(module, x, self.engine, self.batch)
        return self.entries[key]

    def fits(self, engine: Engine, batch: int, path: Path) -> LatencyTable:
        """Return this table if times measured on ``engine`` may be added to it.

        Raises `OcheError` if it was measured on other hardware or with another batch size.
        """
        differences = self.differs(engine) or (f"batch {self.batch}, here {batch}" if batch != self.batch else "")
        if differences:
            raise OcheError(
                f"{path} was measured under other conditions ({differences}), so its times cannot be compared "
                "with new ones; give another --table"
            )
        return self

    def differs(self, engine: Engine) -> str:
        """Return how the table's hardware differs from that of ``engine``, "" if times can be compared."""
        current = describe_hardware(engine)
        differences = [
            f"{name} {self.about.get(name)}, here {current[name]}"
            for name in _SAME
            if self.about.get(name) != current[name]
        ]
        return "; ".join(differences)


def measure_latency(module: nn.Module, x: Tensor, engine: Engine, batch: int = 1) -> Timing:
    """Return the time of ``module`` in evaluation mode on ``batch`` images like x (1, C, H, W)."""
    module = engine.place(module).eval()
    images = engine.images(x.expand(batch, *x.shape[1:]).contiguous())
    with engine.using_threads(), torch.inference_mode():
        return time_function(lambda: module(images), engine.device)


def latency_model(space: Space, table: LatencyTable) -> CostModel:
    """Return the latencies of the networks of ``space``, in milliseconds: the sum of the times of their parts, times
    a factor.

    The sum is too small, by much the same factor for all networks of a space: a part measured alone finds its data in
    the cache, and additions and concatenations are not counted. The factor is the median over `WHOLE` random cells,
    measured as whole networks.
    """
    found, ratios = cost_model(space, table), list[float]()
    for i in range(WHOLE):
        cell = space.random(generator(0, "whole networks", i))
        with torch.random.fork_rng(devices=[]):
            net = final_network(space, cell)
        x = torch.zeros(1, space.in_channels, *space.image)
        key = f"network {sha1(f'{cell} {net}'.encode()).hexdigest()[:8]} {space.in_channels}x{space.image[0]}x{space.image[1]}"
        ratios.append(table(key, net, x) / found.of(cell))
    return found.scaled(median(ratios))


def fill_table(space: Space, table: LatencyTable) -> LatencyTable:
    """Measure everything that `latency_model` needs for ``space``, and return ``table``."""
    latency_model(space, table)
    return table
