"""A small configuration of every kind of field, with components of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from hypothesis import strategies as st

from oche.core.registry import component, singleton


@dataclass(frozen=True)
class Filter:
    """Base of components."""


@component
@dataclass(frozen=True)
class Blur(Filter):
    radius: float = 1.0
    """of the disc"""
    passes: int = 1


@component
@dataclass(frozen=True)
class Sharpen(Filter):
    amounts: tuple[float, ...] = (0.5,)


@component
@dataclass(frozen=True)
class Crop(Filter):
    side: int
    """in pixels"""
    inner: Filter | None = None


@component
@dataclass(frozen=True)
class Invert(Filter):
    pass


@dataclass(frozen=True)
class Identity(Filter):
    pass


identity = singleton("identity", Identity())


@dataclass(frozen=True)
class Unregistered(Filter):
    pass


@dataclass(frozen=True)
class Rates:
    start: float = 0.1
    """at the start"""
    end: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        if self.end > self.start:
            raise ValueError(f"end={self.end} exceeds start={self.start};\n  use end <= start")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job."""

    name: str = "job"
    """what it is called"""
    count: int = 3  # how many
    share: float = 0.5
    fast: bool = False
    smooth: bool | None = None
    limit: int | None = None
    note: str | None = None
    place: Path = Path("here")
    other: Path | None = None
    mode: Literal["fast", "slow", "none"] = "fast"
    level: Literal[1, 2] = 1
    mixed: int | float | str = 0
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] | None = None
    pair: tuple[int, str] = (1, "a")
    rates: Rates = field(default_factory=Rates)
    first: Filter = identity
    second: Filter | None = None
    chain: tuple[Filter, ...] = (Blur(2.0), identity)


@dataclass(frozen=True)
class Words:
    what: Annotated[str, tyro.conf.Positional]
    """the thing"""
    more: Annotated[tuple[int, ...], tyro.conf.Positional] = ()
    fast: bool = False
    size: int = 1


texts = st.text(max_size=8)
floats = st.floats(allow_nan=False)
paths = st.lists(st.text("abc._-é ", min_size=1, max_size=5), min_size=1, max_size=3).map(lambda parts: Path(*parts))
leaf_filters = st.one_of(
    st.just(identity),
    st.just(Invert()),
    st.builds(Blur, floats, st.integers()),
    st.builds(Sharpen, st.lists(floats, max_size=3).map(tuple)),
)
filters = st.one_of(leaf_filters, st.builds(Crop, st.integers(), st.none() | leaf_filters))
rates = st.builds(
    lambda a, b, betas: Rates(max(a, b), min(a, b), betas), floats, floats, st.tuples(floats, floats)
)  # fmt: skip
jobs = st.builds(
    Job, name=texts, count=st.integers(), share=floats, fast=st.booleans(), smooth=st.none() | st.booleans(),
    limit=st.none() | st.integers(), note=st.none() | texts, place=paths, other=st.none() | paths,
    mode=st.sampled_from(["fast", "slow", "none"]), level=st.sampled_from([1, 2]), mixed=st.integers() | floats | texts,
    names=st.lists(texts, max_size=3).map(tuple), sizes=st.none() | st.lists(st.integers(), max_size=3).map(tuple),
    pair=st.tuples(st.integers(), texts), rates=rates, first=filters, second=st.none() | filters,
    chain=st.lists(filters, max_size=3).map(tuple),
)  # fmt: skip
