"""oche: differentiable architecture search that people can rely on.

    import oche
    run = oche.search("digits", method=oche.methods.darts(order=2))
    oche.train(run)

Names are imported when first used, so that ``import oche`` and the command line stay light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import data, export, genotypes, methods, spaces, training
    from .api import Run, evaluate, load, resume, search, train
    from .arch import Genotype
    from .errors import OcheError
    from .spaces import build, operation

_WHERE = {
    "search": "api",
    "train": "api",
    "resume": "api",
    "evaluate": "api",
    "load": "api",
    "Run": "api",
    "Genotype": "arch",
    "OcheError": "errors",
    "build": "spaces",
    "operation": "spaces",
    "data": None,
    "export": None,
    "genotypes": None,
    "methods": None,
    "spaces": None,
    "training": None,
}

__all__ = [
    "Genotype",
    "OcheError",
    "Run",
    "build",
    "data",
    "evaluate",
    "export",
    "genotypes",
    "load",
    "methods",
    "operation",
    "resume",
    "search",
    "spaces",
    "train",
    "training",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'oche' has no attribute {name!r}; it has {', '.join(__all__)}")
    where = _WHERE[name]
    value = (
        import_module(f".{name}", __name__) if where is None else getattr(import_module(f".{where}", __name__), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
