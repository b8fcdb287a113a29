"""Data that are read to be measured by a trained network, rather than to train on.

Then a part called test (or val) is enough, one class is enough, and class folders are found by the names of the network's
classes. Readers ask `measured_classes`; `measuring` sets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from oche.core.errors import OcheError, one_line
from oche.data.readers.listing import Unread, count_loose, folders_in, has_images

_CLASSES: ContextVar[tuple[str, ...] | None] = ContextVar("measured classes", default=None)
_DEEPEST = 8  # folders around everything that are entered


@contextmanager
def measuring(classes: Sequence[str]) -> Iterator[None]:
    """Within, data are read to be measured by a network with ``classes``."""
    token = _CLASSES.set(tuple(classes))
    try:
        yield
    finally:
        _CLASSES.reset(token)


def measured_classes() -> tuple[str, ...] | None:
    """Return the classes of the network that the data are read for; None if they are read to train on."""
    return _CLASSES.get()


def choose_measured(names: Sequence[str], roles: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Return the part of ``names`` to measure, and a note: the test part, else the validation part, else all there is."""
    if not names:
        raise OcheError("no part of the data has labels, so nothing can be measured; give labelled images")
    known = {name.lower(): name for name in reversed(names)}
    order = [*roles["test"], *roles["val"], *roles["train"]]
    part = next((known[name] for name in order if name in known), names[0])
    rest = sorted(name for name in names if name != part)
    return part, f"measured is its part {part}, not used: {', '.join(rest)}" if rest else ""


def find_measured(root: Path, unread: Unread, roles: Mapping[str, Sequence[str]]) -> tuple[list[Path], None, list[str]]:
    """Return the class folders to measure below ``root``, None for a second part, and notes.

    They are the folders beside a class of the network. Folders around everything are entered, and of parts the test part.
    Raises `OcheError` if there are none.
    """
    known, here, notes = set(measured_classes() or ()), root, []
    for _ in range(_DEEPEST):
        full = [folder for folder in folders_in(here) if has_images(folder)]
        if any(folder.name in known for folder in full):
            count_loose(here, unread)
            return full, None, notes
        split_words = {word for words in roles.values() for word in words}
        parts = [f for f in full if f.name.lower() in split_words and any(has_images(c) for c in folders_in(f))]
        if parts:
            part, note = choose_measured([f.name for f in parts], roles)
            notes += [note] if note else []
            here = here / part
        elif len(full) == 1 and not has_images(full[0], deep=False):
            here = full[0]
        else:
            break
    names = ", ".join(one_line(folder.name) for folder in full[:5]) or "none"
    raise OcheError(
        f"{here} has no folder with the name of a class of the network ({_some(sorted(known))}); its folders with images: {names}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")
