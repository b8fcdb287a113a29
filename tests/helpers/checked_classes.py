"""A class and a checked class below it, for annotations."""

from __future__ import annotations

from dataclasses import dataclass

from oche.core.arguments import checked


@dataclass
class Base:
    pass


@checked
@dataclass
class Kind(Base):
    pass
