"""Packages that only some features need: imported when asked for, or an `OcheError` with the line that installs them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from oche.core.errors import OcheError, one_line

# The extra of pyproject.toml that brings a package.
EXTRAS = {
    "pyarrow": "parquet", "onnx": "export", "onnxscript": "export", "onnxruntime": "export", "datasets": "hub",
    "ray": "study", "tensorboard": "log", "triton": "gpu", "pillow_heif": "heif",
}  # fmt: skip


def need(use: str, *modules: str, instead: str = "") -> ModuleType:
    """Import ``modules`` and return the first. Raises `OcheError` if their packages are missing or cannot be imported.

    ``use``: what needs them, such as "reading x.parquet". ``instead``: what the user can do without them.
    """
    found, lacking, broken = [], [], ""
    for name in modules:
        try:
            found.append(import_module(name))
        except ImportError as error:
            package = name.partition(".")[0]
            missing = (error.name or "").partition(".")[0]  # it may be one that the package itself needs
            lacking.append(missing if missing in EXTRAS else package)
            if not isinstance(error, ModuleNotFoundError):
                broken = f" ({package} is installed, and cannot be imported: {one_line(error)[:200]})"
    if lacking:
        raise OcheError(f"{use} needs {_listed(lacking)}{broken}; {install(lacking)}{instead and f', {instead}'}")
    return found[0]


def install(packages: Iterable[str]) -> str:
    """Return the command that installs ``packages``."""
    return f"pip install 'oche[{','.join(dict.fromkeys(EXTRAS[package] for package in packages))}]'"


def _listed(names: list[str]) -> str:
    return " and ".join(dict.fromkeys(names))
