"""Configurations as people write them: YAML files and command lines, on top of frozen dataclasses that hold the defaults."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from oche.core.config import args as arguments
from oche.core.config.serialize import from_dict, to_dict
from oche.core.config.type_hints import NONE, Place, alternatives, members
from oche.core.errors import OcheError

__all__ = ["dump_yaml", "from_dict", "load_yaml", "parse", "to_dict"]

T = TypeVar("T")

# --- YAML -------------------------------------------------------------------------------------------------------------


def load_yaml(path: str | Path, default: T | type[T]) -> T:
    """Merges the file at ``path`` onto ``default``, an instance or a dataclass; see `from_dict`.

    Raises `OcheError`, one line, for a missing file, broken YAML (with its line), a key written twice and refused values.
    """
    return from_dict(default, read_yaml(path), str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The tree in the file at ``path``; an empty file is an empty one. Raises `OcheError`."""
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
        raise OcheError(f"{path}{_line(error)}: {_problem(error)}; write YAML, 'key: value' on each line") from None
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:  # PyYAML's own, of dates, numbers, tags
        problem = "brackets too deep" if isinstance(error, RecursionError) else _problem(error)
        raise OcheError(
            f"{path}: a value that YAML cannot read ({problem}); write YAML, 'key: value' on each line"
        ) from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise OcheError(f"{path}: expected 'key: value' lines, found {type(tree).__name__}")
    return tree


def dump_yaml(value: Any) -> str:
    """``value``, a dataclass, as YAML text from which `load_yaml` makes an equal one."""
    return dump_plain(to_dict(value))


def dump_plain(tree: Any) -> str:
    """A plain tree as YAML text."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML would silently keep the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (written := (key.tag, key.value)) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is written twice", key.start_mark
                )
            seen.add(written)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Lists of plain values on one line."""

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


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" line {mark.line + 1}" if mark else ""


def _problem(error: Exception) -> str:
    return " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())


# --- command line -----------------------------------------------------------------------------------------------------


def parse(base: T | type[T], argv: list[str], *, prog: str, description: str, epilog: str = "") -> T:
    """The configuration that ``argv`` asks for on top of ``base``, an instance of defaults or a dataclass.

    ``--config FILE`` merges a YAML file first, where ``base`` is an instance; then every ``--dotted.path value`` counts.
    ``--a-b`` and ``--a_b`` are the same; a bool is ``--flag``, ``--no-flag`` or ``--flag true``; an optional value takes
    None; a tuple takes its words one after the other. Fields marked `tyro.conf.Positional` take words without an option.
    ``--help`` prints the fields with the strings written below them, then ``epilog`` as it is, and exits with code 0.
    Raises `OcheError`, one line, for anything that cannot be taken.
    """
    asks_help = any(arg in ("-h", "--help") for arg in argv)
    args = [arg for arg in argv if arg not in ("-h", "--help")]
    try:
        if not isinstance(base, type):
            base, args = _with_files(base, args)
        tree = arguments.read(base, args, prog)
        given = from_dict(base, tree, None)
    except OcheError:
        if not asks_help:
            raise
        given = base  # what was asked comes first: the help shows the defaults then
    if asks_help:
        _help(given, prog, description, epilog, takes_files=not isinstance(base, type))
    return cast(T, given)


def _with_files(base: Any, args: list[str]) -> tuple[Any, list[str]]:
    """Merges every ``--config FILE`` onto ``base``; returns it and the other arguments."""
    rest: list[str] = []
    items = iter(args)
    for arg in items:
        flag, equals, file = arg.partition("=")
        if flag != "--config":
            rest.append(arg)
            continue
        file = file if equals else next(items, "")
        if not file or file.startswith("--"):
            raise OcheError("--config needs a value: the path of a YAML file")
        base = load_yaml(file, base)
    return base, rest


_FILES = "--config FILE sets every option from a YAML file, such as a run's config.yaml; other options come on top."


def _help(base: Any, prog: str, description: str, epilog: str, takes_files: bool) -> None:
    """Prints the help and exits."""
    import tyro

    settings = (tyro.conf.AvoidSubcommands, tyro.conf.PositionalMetavarFromFieldName)
    cls, default = (base, {}) if isinstance(base, type) else (type(base), {"default": base})
    try:
        tyro.cli(cls, args=["--help"], prog=prog, description=description, config=settings, **default)
    except SystemExit:  # it has printed
        for part in (_FILES * takes_files, _choices(base), epilog.rstrip()):
            if part:
                print(f"\n{part}")
        sys.exit(0)


def _choices(base: Any) -> str:
    """One line for each field that holds a component: what may stand there. Its own options then follow its name."""
    rows = []
    for path, annotation, default in arguments.paths(base):
        names = list(alternatives(annotation))
        optional = ["None"] if NONE in members(annotation) else []
        if len(names + optional) > 1 and names:
            now = None if isinstance(default, type) else to_dict(default)
            now = now["type"] if isinstance(now, dict) else now
            rows.append(f"  {Place(None, path)} NAME   {', '.join(names + optional)} (default: {now})")
    return (
        "\n".join(["parts to choose by name (the options of each are shown once it is chosen):", *rows]) if rows else ""
    )
