"""Check the types of arguments against annotations, so that a wrong one is an `OcheError` of one line.

`checked` decorates a function or a dataclass. Every argument is compared with its annotation when the function is called or
the value is made, before anything else happens. Equivalent forms are converted: NumPy's numbers to Python's, a list to a
tuple, text to a path. A bool is no number, and NaN is none either. An annotation that cannot be evaluated at run time (an
import for type checkers alone) checks nothing.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from oche.core.annotation_words import expected, hint, short
from oche.core.annotations import REFUSED, Checker, checker
from oche.core.errors import OcheError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])


def checked(target: F) -> F:
    """Return ``target``, a function or a dataclass, with its arguments checked. Raises `OcheError` when it is called.

    The error names the function, the argument, what it takes and what was given; see `short` for the latter.
    """
    if target.__dict__.get("__checked__"):
        return target
    if not isinstance(target, type):
        name = target.__qualname__.rpartition("<locals>.")[2]
        return _checking(target, name, "argument", 0, _own_space(target))  # pyright: ignore[reportReturnType]
    if (init := target.__dict__.get("__init__")) is not None:
        spaces = _spaces_of_fields(target) if is_dataclass(target) else _own_space(init)
        target.__init__ = _checking(init, target.__name__, "field", 1, spaces)
        target.__checked__ = True  # pyright: ignore[reportAttributeAccessIssue]
    return target  # pyright: ignore[reportReturnType]


def check_fields(cls: type, values: Mapping[str, Any], late: list[OcheError] | None = None) -> dict[str, Any]:
    """Return ``values``, by the names of fields of the dataclass ``cls``, in the form to be used. Raises `OcheError`.

    ``late``: takes the errors about values of the right type instead.
    """
    known = _annotations_of_fields(cls)
    return {name: known.accept(cls.__name__, name, value, late=late) for name, value in values.items()}


@functools.cache
def _annotations_of_fields(cls: type) -> _Annotations:
    return _Annotations({f.name: f.type for f in fields(cls)}, _spaces_of_fields(cls))


def _spaces_of_fields(cls: type) -> Callable[[str], dict[str, Any]]:
    """Return the function from the name of a field to the names that its annotation may use: those of its own module."""

    def of(name: str) -> dict[str, Any]:
        owner = next((base for base in cls.__mro__ if name in inspect.get_annotations(base)), cls)
        return getattr(sys.modules.get(owner.__module__), "__dict__", {})

    return of


def _own_space(function: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    return lambda _: getattr(function, "__globals__", {})


def _checking(
    call: Callable[..., Any], owner: str, noun: str, skipped: int, spaces: Callable[[str], dict[str, Any]]
) -> Callable[..., Any]:
    """Return ``call`` with its arguments checked. ``skipped``: arguments before the first that is checked, such as self."""
    parameters = [*inspect.signature(call).parameters.values()][skipped:]
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    others = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    known = _Annotations({p.name: p.annotation for p in parameters}, spaces)

    def check_names(count: int, given: Mapping[str, Any]) -> None:
        """Raise `OcheError` for arguments that ``call`` does not have, or lacks. ``count``: arguments given by place."""
        if count > len(places) and rest is None:
            raise OcheError(
                f"{owner} takes {len(places)} {noun}s by their place ({', '.join(places) or 'none'}), found {count}; "
                "write the others by name"
            )
        for name in given:
            if name not in named and others is None:
                takes = f"; it takes {', '.join(p.name for p in parameters) or 'none'}"
                raise OcheError(f"{owner} has no {noun} {name!r}{did_you_mean(name, sorted(named)) or takes}")
            if name in places[:count]:
                raise OcheError(f"{owner} was given {name} twice, by its place and by its name; leave one out")
        if missing := [name for name in needed if name not in places[:count] and name not in given]:
            raise OcheError(f"{owner} needs a value for {', '.join(missing)}")

    @functools.wraps(call)
    def wrapper(*args: Any, **given: Any) -> Any:
        positional = args[skipped:]
        late: list[OcheError] | None = [] if skipped else None
        check_names(len(positional), given)
        by_place = [
            known.accept(owner, places[i] if i < len(places) else str(rest), value, late=late)
            for i, value in enumerate(positional)
        ]
        by_name = {
            name: known.accept(owner, name if name in named else str(others), value, name, late)
            for name, value in given.items()
        }
        if not late:
            return call(*args[:skipped], *by_place, **by_name)
        try:
            call(*args[:skipped], *by_place, **by_name)
        except OcheError:
            raise  # the class checks the value itself, and says what suits it
        except Exception:
            raise late[0] from None
        raise late[0]

    wrapper.__checked__ = True  # pyright: ignore[reportAttributeAccessIssue]
    return wrapper


class _Annotations:
    """The annotations of the arguments of one function, each made into a checker at its first use."""

    def __init__(self, annotations: Mapping[str, Any], spaces: Callable[[str], dict[str, Any]]) -> None:
        """``spaces``: function from the name of an argument to the names that its annotation may use."""
        self.annotations, self.spaces = annotations, spaces
        self.checkers: dict[str, tuple[Checker, Any]] = {}

    def accept(self, owner: str, name: str, value: Any, shown: str = "", late: list[OcheError] | None = None) -> Any:
        """Return ``value`` for the argument ``name`` in the form to be used. Raises `OcheError`.

        If the value is wrong, but not its type (NaN, a word that is not among those allowed), and there is a list ``late``,
        the error is put there, so that checks of the values may come first.
        """
        found = self.checkers.get(name)
        if found is None:
            try:
                annotation = self._evaluated(name)
                found = self.checkers[name] = checker(annotation), annotation
            except (NameError, TypeError, AttributeError):  # a name for type checkers alone, or of further below
                return value
        check, annotation = found
        ready = check(value)
        if ready is not REFUSED:
            return ready
        error = OcheError(
            f"{owner} takes {expected(annotation)} as {shown or name}, found {short(value)}{hint(annotation, value)}"
        )
        if late is None or (ready := checker(annotation, strict=False)(value)) is REFUSED:
            raise error
        late.append(error)
        return ready

    def _evaluated(self, name: str) -> Any:
        annotation = self.annotations[name]
        if annotation is inspect.Parameter.empty:
            return Any
        return eval(annotation, self.spaces(name)) if isinstance(annotation, str) else annotation
