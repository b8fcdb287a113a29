"""The help of a command: its options with what they do, the most used ones or all of them in groups."""

from __future__ import annotations

import ast
import inspect
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from oche.core.config.moved import short_path
from oche.core.config.serialize import to_dict
from oche.core.config.type_hints import FieldType, field_default, hints
from oche.core.errors import plural

HELP, HELP_ALL, LIST = ("-h", "--help"), "--help-all", "--list-options"
FILES = "--config FILE sets every option from a YAML file, such as a run's config.yaml; other options come on top."
Field = tuple[tuple[str, ...], Any, Any]  # path, annotation, default
_COLUMN = 32  # where the texts begin
_WORDS = {bool: "", int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
_MANY = 8  # choices that are written beside an option, at most


@dataclass(frozen=True)
class Row:
    """An option, or an argument without an option: what to write, what it does, and the values to choose from."""

    path: tuple[str, ...]
    flag: str
    value: str
    text: str
    choices: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        return f"{self.flag} {self.value}".rstrip()


def asks(args: Sequence[str]) -> bool:
    """Whether ``args`` ask for help instead of work."""
    return any(arg in (*HELP, HELP_ALL, LIST) for arg in args)


def without(args: Sequence[str]) -> list[str]:
    """Return ``args`` without the options that ask for help."""
    return [arg for arg in args if not asks([arg])]


def help_text(
    args: Sequence[str], base: Any, fields: Iterable[Field], positional: Sequence[str], texts: Mapping[str, str],
    main: Sequence[str], prog: str, description: str, epilog: str,
) -> str:  # fmt: skip
    """Return what ``args`` ask for about the options of ``base``, a dataclass or an instance that holds the defaults.

    ``fields``: all fields below ``base``. ``positional``: those that take words without an option. ``texts``: flag → text in
    place of that of the field and its default. ``main``: flags of the short help; () where the short help has all options.
    """
    rows = list(option_rows(base, fields, texts))
    if LIST in args:
        return "\n".join(
            f"{row.flag}\t{' '.join(row.choices)}\t{row.text}" for row in rows if row.path[0] not in positional
        )
    short = bool(main) and HELP_ALL not in args
    width = min(110, shutil.get_terminal_size((100, 24)).columns)
    words = " ".join(_argument(base, row, positional) for row in rows if row.path[0] in positional)
    parts = [f"usage: {prog} {words} [OPTIONS]".replace("  ", " "), textwrap.fill(description, width)]
    arguments = [Row(r.path, r.path[0].upper(), "", r.text) for r in rows if r.path[0] in positional]
    options = [row for row in rows if row.path[0] not in positional]
    if arguments:
        parts.append(_section("arguments", arguments, width))
    if short:
        by_flag = {row.flag: row for row in options}
        parts.append(_section("the most used options", [by_flag[flag] for flag in main if flag in by_flag], width))
        hidden = len(options) - sum(flag in by_flag for flag in main)
        parts.append(f"{prog.split(' WHAT')[0]} --help-all shows {plural(hidden, 'more option')}.")
    else:
        parts += [_section(title, group, width) for title, group in _groups(base, options)]
    if not isinstance(base, type):
        parts.append(textwrap.fill(FILES, width))
    return "\n\n".join([*parts, *([epilog.rstrip()] if epilog else [])])


# --- rows -------------------------------------------------------------------------------------------------------------


def option_rows(base: Any, fields: Iterable[Field], texts: Mapping[str, str]) -> Iterator[Row]:
    """Yield a row for each of ``fields``, below ``base``, that an option can set."""
    for path, annotation, default in fields:
        declared = FieldType(annotation)
        if is_dataclass(default) and not declared.components:  # its fields are options, it is none
            continue
        choices = _choices(declared)
        if declared.components and len(choices) < 2:
            continue
        flag = "--" + ".".join(short_path(base, path)).replace("_", "-")
        value = _value(declared, choices)
        listed = () if "|" in value else choices
        text = _with_default(_doc(base, path) or path[-1].replace("_", " "), default, listed)
        yield Row(path, flag, value, texts.get(flag, text), choices)


def _choices(declared: FieldType) -> tuple[str, ...]:
    literal = [str(v) for member in declared.members if get_origin(member) is Literal for v in get_args(member)]
    names = [*declared.components, *literal]
    return tuple([*names, "None"] if names and declared.optional else names)


def _value(declared: FieldType, choices: Sequence[str]) -> str:
    if declared.components:
        return "NAME"
    if choices and len(declared.members) == 1:
        return "|".join(choices) if len(choices) <= _MANY else "NAME"
    if declared.tuple is not None:
        return f"{_WORDS.get(get_args(declared.tuple)[0], 'VALUE')} ..."
    return "|".join(dict.fromkeys(_WORDS.get(member, "VALUE") for member in declared.members if member is not bool))


def _with_default(text: str, default: Any, choices: Sequence[str]) -> str:
    text = " ".join(text.split())
    if choices and len(choices) > 1 and not all(choice in text for choice in choices):
        text += f"; one of {', '.join(choices)}"
    if default in (None, "", ()) or default is MISSING or isinstance(default, type):
        return text
    if isinstance(default, bool):
        return f"{text} (default: {'yes' if default else 'no'})"
    if is_dataclass(default):
        tree = to_dict(default)
        default = tree["type"] if isinstance(tree, dict) else tree
    if isinstance(default, tuple):
        default = " ".join(str(v) for v in default if not is_dataclass(v)) or f"{plural(len(default), 'entry')}"
    return f"{text} (default: {default})"


def _argument(base: Any, row: Row, positional: Sequence[str]) -> str:
    name, declared = row.path[0], FieldType(hints(base if isinstance(base, type) else type(base))[row.path[0]])
    word = name.upper() + (" ..." if declared.tuple is not None else "")
    return word if field_default(base, name) is MISSING else f"[{word}]"


# --- the texts of fields ----------------------------------------------------------------------------------------------


def _doc(base: Any, path: Sequence[str]) -> str:
    """The text of the field at ``path``: the string below it in its class, or the comment beside it."""
    for name in path[:-1]:
        base = base[int(name)] if isinstance(base, tuple) else field_default(base, name)
    for cls in (base if isinstance(base, type) else type(base)).__mro__:
        if path[-1] in (docs := field_docs(cls)):
            return docs[path[-1]]
    return ""


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The texts of the fields that ``cls`` itself declares; {} where its source cannot be read."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
        body = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return {}
    docs, lines = {}, source.splitlines()
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for node, after in zip(statements, [*statements[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            docs[node.target.id] = after.value.value
        elif "  # " in (line := lines[(node.end_lineno or node.lineno) - 1]):
            docs[node.target.id] = line.rpartition("  # ")[2]
    return docs


# --- the page ---------------------------------------------------------------------------------------------------------


def _groups(base: Any, rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield (title, rows): the options of the command itself, then those of each part."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.flag.removeprefix("--").rpartition(".")[0], []).append(row)
    for name in sorted(found, key=lambda name: name != ""):
        path = min((row.path[:-1] for row in found[name]), key=len)
        text = " ".join(_doc(base, path).split()) if path else ""
        yield (f"options of {name}{f': {text}' if text else ''}" if name else "options"), found[name]


def _section(title: str, rows: Sequence[Row], width: int) -> str:
    lines = textwrap.wrap(f"{title}:", width)
    for row in rows:
        text = textwrap.wrap(row.text, width - _COLUMN, break_on_hyphens=False) or [""]
        if len(row.head) + 4 > _COLUMN:
            lines += [f"  {row.head}"]
        else:
            lines += [f"  {row.head:<{_COLUMN - 2}}{text.pop(0)}"]
        lines += [" " * _COLUMN + line for line in text]
    return "\n".join(line.rstrip() for line in lines)
