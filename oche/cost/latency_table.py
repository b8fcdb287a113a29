"""Measured times of the parts of networks, with what they were measured on, as a JSON file that searches reuse."""

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
from oche.cost.breakdown import final
from oche.cost.expected_cost import Prices, prices
from oche.cost.timer import Timing, timed
from oche.devices.engine import Engine
from oche.spaces.base import Space

WHOLE = 3  # networks
_FORMAT = "oche latencies 1"


def hardware(engine: Engine) -> dict[str, Any]:
    """What a time depends on, and when it was taken."""
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


_SAME = ("hardware", "device", "threads", "torch")  # what must agree for times to be comparable


@dataclass
class Table:
    """Key of a part → how long it takes on ``batch`` images. A `oche.cost.expected_cost.Measure` of milliseconds.

    With an ``engine`` what is missing is measured and kept; without one it is refused.
    """

    about: dict[str, Any]
    batch: int = 1
    entries: dict[str, Timing] = field(default_factory=dict)
    engine: Engine | None = None
    each: Callable[[str], None] = lambda key: None
    """is told of every measurement"""

    @classmethod
    def fresh(cls, engine: Engine, batch: int = 1) -> Table:
        return cls(hardware(engine), batch, engine=engine)

    @classmethod
    def open(cls, path: Path) -> Table:
        """The table in a file. Raises `OcheError` where there is none."""
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
        entries = {key: asdict(timing) for key, timing in self.entries.items()}
        tree = {"format": _FORMAT, "about": self.about, "batch": self.batch, "unit": "ms", "entries": entries}
        atomic.write_bytes(path, json.dumps(tree, indent=1).encode())

    def __call__(self, key: str, module: nn.Module, x: Tensor) -> float:
        return self.of(key, module, x).median

    def of(self, key: str, module: nn.Module, x: Tensor) -> Timing:
        """The time of ``module`` on ``x``, one image, as often as the table's batch has some. Raises `OcheError`."""
        if key not in self.entries:
            if self.engine is None:
                raise OcheError(
                    f"the table of latencies has no {key!r}; measure one for this space and size: "
                    "oche cost --table FILE --space NAME --recipe NAME --image SIDE --classes N"
                )
            self.each(key)
            self.entries[key] = time_of(module, x, self.engine, self.batch)
        return self.entries[key]

    def fits(self, engine: Engine, batch: int, path: Path) -> Table:
        """This table, for times taken here to join it. Raises `OcheError` for one from elsewhere, or of other batches."""
        apart = self.differs(engine) or (f"batch {self.batch}, here {batch}" if batch != self.batch else "")
        if apart:
            raise OcheError(
                f"{path} was measured otherwise ({apart}), and times of both would not compare; give another --table"
            )
        return self

    def differs(self, engine: Engine) -> str:
        """In what it was measured otherwise than ``engine`` would; "" where times can be compared."""
        here = hardware(engine)
        apart = [
            f"{name} {self.about.get(name)}, here {here[name]}" for name in _SAME if self.about.get(name) != here[name]
        ]
        return "; ".join(apart)


def time_of(module: nn.Module, x: Tensor, engine: Engine, batch: int = 1) -> Timing:
    """How long ``module`` takes, in evaluation mode, on ``batch`` images like x (1, C, H, W)."""
    module = engine.place(module).eval()
    images = engine.images(x.expand(batch, *x.shape[1:]).contiguous())
    with engine.using_threads(), torch.inference_mode():
        return timed(lambda: module(images), engine.device)


def latencies(space: Space, table: Table) -> Prices:
    """What the networks of ``space`` take, in milliseconds: the sum of the times of their parts, times a number.

    A part measured alone finds its data in the cache, and nothing adds up or concatenates: the sum is too small, by much the
    same factor for all networks of a space. The factor is the median over `WHOLE` random cells, measured as whole networks.
    """
    found, ratios = prices(space, table), list[float]()
    for i in range(WHOLE):
        cell = space.random(generator(0, "whole networks", i))
        with torch.random.fork_rng(devices=[]):
            net = final(space, cell)
        x = torch.zeros(1, space.in_channels, *space.image)
        key = f"network {sha1(f'{cell} {net}'.encode()).hexdigest()[:8]} {space.in_channels}x{space.image[0]}x{space.image[1]}"
        ratios.append(table(key, net, x) / found.of(cell))
    return found.scaled(median(ratios))


def measured(space: Space, table: Table) -> Table:
    """``table`` with all that `latencies` needs for ``space``."""
    latencies(space, table)
    return table
