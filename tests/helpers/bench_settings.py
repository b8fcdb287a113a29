"""A benchmark of a tiny search."""

from __future__ import annotations

from oche.bench.settings import BenchConfig

SIZES = dict(
    batch=2, channels=4, cells=3, nodes=1, candidates=4, train_channels=4, train_cells=3, image=8, device="cpu"
)


def setting(**fields) -> BenchConfig:
    return BenchConfig(**{**SIZES, **fields})
