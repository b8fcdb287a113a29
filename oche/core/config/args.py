"""Command lines as trees: ``--search.epochs 5 --search.hypergrad exact`` for the dataclasses of a configuration.

An option is the dotted path of a field. One that names a component (``--search.hypergrad Neumann``) replaces it, and its
own fields are options then (``--search.hypergrad.terms 3``), in whatever order they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, is_dataclass
from typing import Annotated, Any, get_args, get_origin

from oche.core.config.serialize import pick
from oche.core.config.type_hints import (
    NONE,
    Place,
    alternatives,
    expected,
    field_default,
    hints,
    item,
    length,
    members,
    only_struct,
    sequence,
    settable,
)
from oche.core.errors import OcheError, nearest


@dataclass(frozen=True)
class Option:
    """``--path`` with the words that follow it; ``inline`` if its only word was joined by "="."""

    flag: str
    words: tuple[str, ...]
    inline: bool

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.flag.removeprefix("--").replace("-", "_").split("."))


def read(base: Any, args: list[str], prog: str) -> dict[str, Any]:
    """The tree that ``args`` ask to merge onto ``base``, a dataclass or an instance. Raises `OcheError` for unknown options."""
    loose, options = _split(args)
    tree: dict[str, Any] = {}
    left: dict[int, list[str]] = {}
    # Components are chosen before their fields are set; among equals the last one counts.
    for i in sorted(range(len(options)), key=lambda i: len(options[i].path)):
        left[i] = _apply(base, tree, options[i], prog)
    loose += [word for i in sorted(left) for word in left[i]]
    return _positionals(base, loose, prog) | tree


def _split(args: list[str]) -> tuple[list[str], list[Option]]:
    loose: list[str] = []
    options: list[Option] = []
    for arg in args:
        if arg.startswith("--") and len(arg) > 2:
            flag, equals, word = arg.partition("=")
            options.append(Option(flag, (word,) if equals else (), bool(equals)))
        elif options and not options[-1].inline:
            options[-1] = Option(options[-1].flag, (*options[-1].words, arg), False)
        else:
            loose.append(arg)
    return loose, options


def _apply(base: Any, tree: dict[str, Any], option: Option, prog: str) -> list[str]:
    """Sets one option in ``tree``; returns the words that were not its own."""
    path, negated = option.path, False
    found = _find(base, tree, path)
    if found is None and path[-1].startswith("no_"):
        path, negated = (*path[:-1], path[-1].removeprefix("no_")), True
        found = _find(base, tree, path)
        found = found if found and bool in members(found[0]) else None
    if found is None:
        raise OcheError(_unknown(base, tree, option, prog))
    annotation, place = found[0], Place(None, path)
    if negated:
        raw, rest = False, list(option.words)
    else:
        raw, rest = _take(annotation, option.words, place)
    if rest and option.inline:
        raise OcheError(f"{place}: expected no value after {option.flag}, found {rest[0]!r}")
    if isinstance(raw, str) and alternatives(annotation) and not (raw == "None" and NONE in members(annotation)):
        pick(annotation, raw, place)
        raw = {"type": raw}
    at = tree
    for part in path[:-1]:
        at = at.setdefault(part, {})
    at[path[-1]] = raw
    return rest


def _take(annotation: Any, words: tuple[str, ...], place: Place) -> tuple[Any, list[str]]:
    """(value as text, list of text or bool; the words after it)."""
    kinds, kind = members(annotation), sequence(annotation)
    if kind is not None and not (NONE in kinds and words[:1] == ("None",)):
        count = len(words) if length(kind) is None else length(kind)
        return list(words[:count]), list(words[count:])
    if bool in kinds and (not words or words[0].lower() not in ("true", "false", "none")):
        return True, list(words)
    if not words:
        raise OcheError(f"{place} needs a value: {expected(annotation, place)}")
    return words[0], list(words[1:])


def _find(base: Any, tree: Any, path: tuple[str, ...]) -> tuple[Any, Any] | None:
    """(annotation, default) of the field at ``path``, with the components that ``tree`` chooses; None if there is none."""
    annotation: Any = None
    for part in path:
        kind = sequence(annotation)
        if kind is not None and isinstance(base, tuple) and part.isdecimal() and int(part) < len(base):
            annotation, base = item(kind, int(part)), base[int(part)]
        elif is_dataclass(base) and part in settable(base):
            cls = base if isinstance(base, type) else type(base)
            annotation, base = hints(cls)[part], field_default(base, part)
        else:
            return None
        tree = tree.get(part) if isinstance(tree, dict) else None
        base = _chosen(annotation, base, tree)
    return annotation, base


def _chosen(annotation: Any, default: Any, tree: Any) -> Any:
    """What stands at a field: the component that ``tree`` names, else its default, else the one dataclass it may hold."""
    if isinstance(tree, str | list):  # nothing that has fields
        return None
    if isinstance(tree, dict) and "type" in tree:
        return alternatives(annotation)[tree["type"]]
    return only_struct(annotation) if default is None or default is MISSING else default


def paths(base: Any, tree: Any = None, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(path, annotation, default) of every field below ``base``, those that hold dataclasses before their own fields."""
    for name in settable(base) if is_dataclass(base) else ():
        annotation, default = _find(base, tree, (name,)) or (None, None)
        yield (*at, name), annotation, default
        if not isinstance(default, type):
            yield from paths(default, tree.get(name) if isinstance(tree, dict) else None, (*at, name))


# --- words that belong to no option -----------------------------------------------------------------------------------


def positional(base: Any) -> list[str]:
    """Names of the fields of ``base`` that are annotated with ``tyro.conf.Positional``."""
    annotations = hints(base if isinstance(base, type) else type(base))
    marked = {
        name: get_args(annotations[name])[1:] for name in settable(base) if get_origin(annotations[name]) is Annotated
    }
    if not marked:
        return []
    from tyro.conf import Positional

    return [name for name, marks in marked.items() if any(mark is Positional for mark in marks)]


def _positionals(base: Any, words: list[str], prog: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name in positional(base):
        annotation = hints(base if isinstance(base, type) else type(base))[name]
        if words:
            tree[name], words = _take(annotation, tuple(words), Place(None, (name,)))
        elif field_default(base, name) is MISSING:
            raise OcheError(f"{prog} needs {name.upper()}; write {prog} {name.upper()}, see {prog} --help")
    if words:
        known = [str(Place(None, path)) for path, *_ in paths(base)]
        hint = nearest(words[0], known) if words[0].startswith("-") else ""
        raise OcheError(f"unexpected {words[0]!r}{hint or ';'} options are written --name value, see {prog} --help")
    return tree


# --- unknown options --------------------------------------------------------------------------------------------------


def _unknown(base: Any, tree: dict[str, Any], option: Option, prog: str) -> str:
    known = {str(Place(None, path)): path for path, *_ in paths(base, tree)}
    last = option.path[-1]
    same = [flag for flag, path in known.items() if path[-1] == last]
    hint = _elsewhere(base, tree, option.path)
    hint = hint or (f"; did you mean {same[0]!r}?" if same else nearest(option.flag, [*known]))
    return f"unknown option {option.flag}{hint}{'' if hint.endswith('?') else ';'} see {prog} --help"


def _elsewhere(base: Any, tree: dict[str, Any], path: tuple[str, ...]) -> str:
    """Which component would have to stand there for the option to exist."""
    owner, last = path[:-1], path[-1]
    found = _find(base, tree, owner) if owner else None
    if found is None:
        return ""
    having = [name for name, c in alternatives(found[0]).items() if last in settable(c)]
    flag = Place(None, owner)
    return f"; {' and '.join(having)} would have it: add {flag} {having[0]}" if having else ""
