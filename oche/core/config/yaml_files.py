"""Configurations in YAML files, on top of frozen dataclasses that hold the defaults."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from oche.core.config.moved import renamed
from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError

T = TypeVar("T")


def load_yaml(path: str | Path, default: T | type[T]) -> T:
    """Merge the file at ``path`` onto ``default``, an instance or a dataclass; see `from_dict`.

    Raises `OcheError`, one line, for a missing file, broken YAML (with its line), a key written twice and refused values.
    """
    tree = read_yaml(path)
    if found := [f"{old} is now {new}" for old, new in renamed(default, tree)]:
        print(f"{path}: {', '.join(found)}", file=sys.stderr)
    return from_dict(default, tree, str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the tree in the file at ``path``, {} for an empty file. Raises `OcheError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise OcheError(
            f"no configuration file at {path}; give the path of a YAML file such as runs/x/config.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise OcheError(f"cannot read {path}: {reason}; give the path of a YAML file") from None
    try:
        tree = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise OcheError(f"{path}{line}: {_problem(error)}; write YAML, 'key: value' on each line") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # raised inside PyYAML
        problem = "brackets too deep" if isinstance(error, RecursionError) else _problem(error)
        raise OcheError(
            f"{path}: a value that YAML cannot read ({problem}); write YAML, 'key: value' on each line"
        ) from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise OcheError(f"{path}: expected 'key: value' lines, found {type(tree).__name__}")
    return tree


def dump_yaml(value: Any) -> str:
    """Return ``value``, a dataclass, as YAML text from which `load_yaml` makes an equal one."""
    return dump_plain(to_dict(value))


def dump_plain(tree: Any) -> str:
    """Return a plain tree as YAML text."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key written twice; YAML itself would silently keep the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (written := (key.tag, key.value)) in seen:
                problem = f"key {key.value!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(written)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """A dumper that writes lists of plain values on one line."""

    def represent_list(self, data: list[Any]) -> yaml.Node:
        flat = not any(isinstance(v, list | dict) for v in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)

    def represent_text(self, data: str) -> yaml.Node:
        # PyYAML folds these line ends in single quotes into spaces; in double quotes it escapes them.
        style = '"' if any(c in data for c in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(list, _Dumper.represent_list)
_Dumper.add_representer(str, _Dumper.represent_text)


def _problem(error: Exception) -> str:
    return " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())
