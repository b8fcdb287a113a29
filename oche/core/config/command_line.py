"""Configurations from command lines: ``--search.epochs 5 --search.hypergrad Neumann --search.hypergrad.terms 3``.

An option is the dotted path of a field. An option that names a component replaces the component, and the fields of the new
one are options then, in whatever order they are written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, is_dataclass
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

from oche.core.config.help import asks, help_text, without
from oche.core.config.moved import current_path, short_path
from oche.core.config.serialize import from_dict, pick
from oche.core.config.type_hints import FieldType, Place, field_default, hints, settable
from oche.core.config.yaml_files import load_yaml
from oche.core.errors import OcheError, did_you_mean

T = TypeVar("T")


def parse(
    base: T | type[T],
    argv: list[str],
    *,
    prog: str,
    description: str,
    epilog: str = "",
    main: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
) -> T:
    """Return the configuration that ``argv`` asks for on top of ``base``, an instance of defaults or a dataclass.

    ``--config FILE`` merges a YAML file first, if ``base`` is an instance; then every ``--dotted.path value`` counts.
    ``--a-b`` and ``--a_b`` are the same. A bool is ``--flag``, ``--no-flag`` or ``--flag true``. An optional value may be
    None. A tuple takes several words. Fields marked `tyro.conf.Positional` take words without an option.
    ``--help`` prints the options ``main`` (all, if there are none) with the docstrings of their fields, or with ``texts`` by
    flag, then ``epilog`` unchanged, and exits with code 0; ``--help-all`` prints all options, in groups.
    Raises `OcheError`, one line, for every argument that cannot be used.
    """
    asks_help, args = asks(argv), without(argv)
    try:
        if not isinstance(base, type):
            base, args = _merge_files(base, args)
        given = from_dict(base, read_options(base, args, prog), None)
    except OcheError:
        if not asks_help:
            raise
        given = base  # the help then shows the defaults
    if asks_help:
        print(help_text(argv, given, paths(given), _positional(given), texts or {}, main, prog, description, epilog))
        sys.exit(0)
    return cast(T, given)


def _merge_files(base: Any, args: list[str]) -> tuple[Any, list[str]]:
    """Merge every ``--config FILE`` onto ``base``; return it and the other arguments."""
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


# --- options ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """``--path`` with the words that follow it; ``inline`` if its only word was joined by "="."""

    flag: str
    words: tuple[str, ...]
    inline: bool

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.flag.removeprefix("--").replace("-", "_").split("."))


def read_options(base: Any, args: list[str], prog: str) -> dict[str, Any]:
    """Return the tree that ``args`` merge onto ``base``, a dataclass or an instance. Raises `OcheError` for unknown options."""
    loose, options = _split(args)
    tree: dict[str, Any] = {}
    left: dict[int, list[str]] = {}
    # Short paths first, so that a component is chosen before its fields are set; the last of equal options counts.
    for i in sorted(range(len(options)), key=lambda i: len(options[i].path)):
        left[i] = _apply(base, tree, options[i], prog)
    loose += [word for i in sorted(left) for word in left[i]]
    return _positionals(base, loose, prog) | tree


def _split(args: list[str]) -> tuple[list[str], list[Option]]:
    """Return the words before the first option, and the options with their words."""
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
    """Set one option in ``tree``; return the words that are not part of it."""
    path, negated = current_path(base, option.path), False
    found = _find(base, tree, path)
    if found is None and path[-1].startswith("no_"):
        path, negated = (*path[:-1], path[-1].removeprefix("no_")), True
        found = _find(base, tree, path)
        found = found if found and bool in FieldType(found[0]).members else None
    if found is None:
        raise OcheError(_unknown(base, tree, option, prog))
    declared, place = FieldType(found[0]), Place(None, option.path)
    raw, rest = (False, list(option.words)) if negated else _take(declared, option.words, place)
    if rest and option.inline:
        raise OcheError(f"{place}: expected no value after {option.flag}, found {rest[0]!r}")
    if isinstance(raw, str) and declared.components and not (raw == "None" and declared.optional):
        pick(declared, raw, place)
        raw = {"type": raw}
    at = tree
    for part in path[:-1]:
        at = at.setdefault(part, {})
    at[path[-1]] = raw
    return rest


def _take(declared: FieldType, words: tuple[str, ...], place: Place) -> tuple[Any, list[str]]:
    """Return a value (text, a list of text, or a bool) and the words after it."""
    if declared.tuple is not None and not (declared.optional and words[:1] == ("None",)):
        count = len(words) if declared.length is None else declared.length
        return list(words[:count]), list(words[count:])
    if bool in declared.members and (not words or words[0].lower() not in ("true", "false", "none")):
        return True, list(words)
    if not words:
        raise OcheError(f"{place} needs a value: {declared.expected(place)}")
    return words[0], list(words[1:])


def _find(base: Any, tree: Any, path: tuple[str, ...]) -> tuple[Any, Any] | None:
    """Return (annotation, default) of the field at ``path``, given the components that ``tree`` names; None if no such field."""
    annotation: Any = None
    for part in path:
        declared = FieldType(annotation)
        if declared.tuple is not None and isinstance(base, tuple) and part.isdecimal() and int(part) < len(base):
            annotation, base = declared.element(int(part)), base[int(part)]
        elif is_dataclass(base) and part in settable(base):
            annotation, base = hints(_class(base))[part], field_default(base, part)
        else:
            return None
        tree = tree.get(part) if isinstance(tree, dict) else None
        base = _chosen(FieldType(annotation), base, tree)
    return annotation, base


def _class(base: Any) -> type:
    return base if isinstance(base, type) else type(base)


def _chosen(declared: FieldType, default: Any, tree: Any) -> Any:
    """Return the component that ``tree`` names, else the default, else the only dataclass that the field may hold."""
    if isinstance(tree, str | list):  # a value without fields
        return None
    if isinstance(tree, dict) and "type" in tree:
        return declared.components[tree["type"]]
    return declared.only_struct if default is None or default is MISSING else default


def paths(base: Any, tree: Any = None, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield (path, annotation, default) of every field below ``base``, each dataclass before its own fields."""
    for name in settable(base) if is_dataclass(base) else ():
        annotation, default = _find(base, tree, (name,)) or (None, None)
        yield (*at, name), annotation, default
        if not isinstance(default, type):
            yield from paths(default, tree.get(name) if isinstance(tree, dict) else None, (*at, name))


def _unknown(base: Any, tree: dict[str, Any], option: Option, prog: str) -> str:
    """The message for an unknown option, with the component that would have it or the option that was perhaps meant."""
    *owner, last = option.path
    found = _find(base, tree, current_path(base, tuple(owner))) if owner else None
    known = {str(Place(None, short_path(base, path))): path for path, *_ in paths(base, tree)}
    same = [flag for flag, path in known.items() if path[-1] == last]
    if having := [name for name, c in FieldType(found and found[0]).components.items() if last in settable(c)]:
        hint = f"; {' and '.join(having)} would have it: add {Place(None, tuple(owner))} {having[0]};"
    elif same:
        hint = f"; did you mean {same[0]!r}?"
    else:
        hint = did_you_mean(option.flag, [*known]) or ";"
    return f"unknown option {option.flag}{hint} see {prog} --help"


# --- words without an option ------------------------------------------------------------------------------------------


def _positional(base: Any) -> list[str]:
    """The names of the fields of ``base`` that are annotated with ``tyro.conf.Positional``."""
    annotations = hints(_class(base))
    marks = {n: get_args(annotations[n])[1:] for n in settable(base) if get_origin(annotations[n]) is Annotated}
    if not marks:
        return []
    from tyro.conf import Positional

    return [name for name, of in marks.items() if any(mark is Positional for mark in of)]


def _positionals(base: Any, words: list[str], prog: str) -> dict[str, Any]:
    """Return the tree that ``words`` set. Raises `OcheError` for words that are left over, or missing."""
    tree: dict[str, Any] = {}
    for name in _positional(base):
        if words:
            declared = FieldType(hints(_class(base))[name])
            tree[name], words = _take(declared, tuple(words), Place(None, (name,)))
        elif field_default(base, name) is MISSING:
            raise OcheError(f"{prog} needs {name.upper()}; write {prog} {name.upper()}, see {prog} --help")
    if words:
        known = [str(Place(None, short_path(base, path))) for path, *_ in paths(base)]
        hint = did_you_mean(words[0], known) if words[0].startswith("-") else ""
        raise OcheError(f"unexpected {words[0]!r}{hint or ';'} options are written --name value, see {prog} --help")
    return tree
