"""Files of a user's own, run so that what they register can be named: operations, parts, methods."""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path
from typing import Any

from oche.core.config.yaml_files import read_yaml
from oche.core.errors import OcheError


def load_plugins(plugins: tuple[Path, ...]) -> None:
    """Runs each file once a process; what they register stays."""
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
    """Where in ``file`` an error arose."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return f" line {line}" if line else ""


def load_plugins_named_in(config_file: Path) -> None:
    """Runs the plugins that a config.yaml names, which its other values may need. Raises `OcheError`."""
    load_plugins(plugin_paths(read_yaml(config_file)))


def plugin_paths(tree: dict[str, Any]) -> tuple[Path, ...]:
    """The plugins that a configuration names; what else may stand there is refused where its values are read."""
    names = tree.get("plugins")
    return tuple(map(Path, names)) if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()
