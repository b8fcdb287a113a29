"""Plugins: the user's own Python files, run so that the operations, components and methods that they register can be named."""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path
from typing import Any

from oche.core.config.yaml_files import read_yaml
from oche.core.errors import OcheError


def load_plugins(plugins: tuple[Path, ...]) -> None:
    """Run each file once in this process. Whatever it registers stays registered.

    Raises `OcheError` for a missing file and for an error in it, with its line.
    """
    for plugin in plugins:
        file = Path(plugin).resolve()
        if file in _LOADED:
            continue
        if not file.is_file():
            raise OcheError(f"plugin {plugin} does not exist; give the path of a Python file")
        try:
            runpy.run_path(str(file))
        except Exception as error:
            raise OcheError(f"plugin {plugin}{_line(error, file)}: {type(error).__name__}: {error}") from error
        _LOADED.add(file)


_LOADED: set[Path] = set()


def _line(error: Exception, file: Path) -> str:
    """Return " line N", the line of ``file`` where ``error`` arose, or ""."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return f" line {line}" if line else ""


def load_plugins_named_in(config_file: Path) -> None:
    """Run the plugins that a config.yaml names, which its other values may need. Raises `OcheError`."""
    load_plugins(plugin_paths(read_yaml(config_file)))


def plugin_paths(tree: dict[str, Any]) -> tuple[Path, ...]:
    """Return the plugins that a configuration names. A malformed list gives (); the reader of the configuration reports it."""
    names = tree.get("plugins")
    return tuple(map(Path, names)) if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()
