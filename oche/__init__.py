"""oche: differentiable architecture search that people can rely on.

    import oche
    run = oche.fit("path/to/images", budget="1h")                       # images in, a trained network out
    run = oche.search("digits", method=oche.methods.darts(order=2))     # or the parts of it
    oche.train(run)

Names are imported on first use, so that ``import oche`` and the command line stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from oche._version import __version__ as __version__

if TYPE_CHECKING:
    from oche import data, methods, spaces, strategies, training
    from oche.api import Run, evaluate, fit, load, resume, search, train
    from oche.core import genotypes
    from oche.core.architecture import Genotype
    from oche.core.errors import OcheError
    from oche.deploy import export
    from oche.estimator import ImageClassifier
    from oche.networks.build import build
    from oche.networks.operations import operation

_MODULES = {
    "fit": "api",
    "search": "api",
    "train": "api",
    "resume": "api",
    "evaluate": "api",
    "load": "api",
    "Run": "api",
    "ImageClassifier": "estimator",
    "Genotype": "core.architecture",
    "OcheError": "core.errors",
    "build": "networks.build",
    "operation": "networks.operations",
    "data": "",
    "methods": "",
    "spaces": "",
    "strategies": "",
    "training": "",
    "genotypes": "core",
    "export": "deploy",
}  # the module of each name, below oche; for a module, its folder

__all__ = [
    "Genotype",
    "ImageClassifier",
    "OcheError",
    "Run",
    "build",
    "data",
    "evaluate",
    "export",
    "fit",
    "genotypes",
    "load",
    "methods",
    "operation",
    "resume",
    "search",
    "spaces",
    "strategies",
    "train",
    "training",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'oche' has no attribute {name!r}; it has {', '.join(__all__)}")
    home = f"oche.{_MODULES[name]}".rstrip(".")
    value = getattr(import_module(home), name, None) if home != "oche" else None
    if value is None:  # a module that is not imported yet
        value = import_module(f"{home}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
