"""The settings of `oche bench`, and the works and forms that it knows. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oche.core.errors import OcheError, did_you_mean

REFERENCE = "reference"  # the form of the published code
BASELINE = "plain-nchw"  # the form that others are compared with if there is no published code
WORKS = {
    "first": "a search step of DARTS, first order",
    "second": "the same, second order",
    "exact": "the same, its look-ahead differentiated exactly",
    "gdas": "a search step of GDAS",
    "pc-darts": "a search step of PC-DARTS",
    "train": "a training step of the final network DARTS_V2",
}


@dataclass(frozen=True)
class Form:
    """One way to compute the same.

    about    description for people
    flow     how the cells of a network compute: a form of `oche.kernels.choose`
    last     whether tensors are in channels_last
    graph    whether whole steps are replayed from CUDA graphs
    device   the only device type that has the form; "" for all
    """

    about: str
    flow: str = "plain"
    last: bool = True
    graph: bool = False
    device: str = ""


FORMS = {
    BASELINE: Form("plain modules, NCHW", last=False),
    "plain": Form("plain modules, channels_last"),
    "shared": Form("work shared between edges, in torch, channels_last", flow="shared"),
    "native": Form("own kernels in C++, channels_last", flow="native", device="cpu"),
    "triton": Form("own kernels in Triton", flow="gpu", device="cuda"),
    "graph": Form("plain modules (GDAS: chosen), steps replayed from CUDA graphs", graph=True, device="cuda"),
    "graph-shared": Form("work shared, steps replayed from CUDA graphs", flow="shared", graph=True, device="cuda"),
    "graph-triton": Form("Triton kernels, steps replayed from CUDA graphs", flow="gpu", graph=True, device="cuda"),
}


@dataclass(frozen=True)
class BenchConfig:
    """What to time, in which sizes. By default, sizes are the published ones."""

    works: tuple[str, ...] = ("first", "second", "gdas", "pc-darts", "train")
    """works to time: first, second, exact, gdas, pc-darts (search steps), train (a training step of the network of DARTS_V2)"""
    forms: tuple[str, ...] = ()
    """forms to time: plain-nchw, plain, shared, native (CPU), triton, graph, graph-shared, graph-triton (CUDA); by default all
    forms for the device"""
    reference: tuple[Path, ...] = ()
    """checkouts of the published code of DARTS or PC-DARTS, to time too and to compare oche's forms with; by default they are
    compared with plain-nchw"""
    space: str = "darts"
    """search space: darts, seed, nb201"""
    batch: int = 16
    """images in a batch"""
    channels: int | None = None
    """channels of the supernet"""
    cells: int | None = None
    """cells in the supernet"""
    nodes: int | None = None
    """nodes in each cell of the supernet"""
    candidates: int | None = None
    """number of candidate operations; the first ones of the space are used"""
    train_channels: int = 36
    """channels of the final network"""
    train_cells: int = 20
    """cells in the final network"""
    image: int = 32
    """side of the random images"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1"""
    threads: int = 0
    """CPU threads; 0: as many as torch chooses"""
    rounds: int = 5
    """number of rounds; every form has one turn in each"""
    steps: int = 1
    """timed steps in a turn"""

    def __post_init__(self) -> None:
        for what, given, known in (("work", self.works, [*WORKS]), ("form", self.forms, [*FORMS])):
            for name in given:
                if name not in known:
                    raise OcheError(f"unknown {what} {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
            if len(set(given)) != len(given):
                raise OcheError(f"--{what}s {' '.join(given)} names one twice; write each once")
        if not self.works:
            raise OcheError(f"--works names nothing to time; known: {', '.join(WORKS)}")
        least = {
            "batch": 2,
            "threads": 0,
            **dict.fromkeys(_COUNTS, 1),
        }  # a BatchNorm needs two images
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise OcheError(f"{name}={value} cannot be measured; use at least {low}")


_COUNTS = ("channels", "cells", "nodes", "candidates", "train_channels", "train_cells", "image", "rounds", "steps")
