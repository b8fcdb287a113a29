"""The journal of a black-box search: journal.jsonl, one JSON line for each event. It is the only state of the search.

The first line has the settings. ``ask`` lines have a trial's number, genotype and fidelity, ``tell`` lines its report.
Lines are appended in one write and flushed to disk. A last line that was cut short is dropped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from oche.core.atomic_files import parse_json, refused, to_json
from oche.core.errors import OcheError

FILE = "journal.jsonl"
Event = dict[str, Any]


class Journal:
    """The journal at ``path``, open for appending. ``events``: those that were there, in order.

    Raises `OcheError` if a line other than the last is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = read_journal(path)
        if path.exists():  # drop a line that was cut short
            whole = path.read_bytes().rfind(b"\n") + 1
            if whole < path.stat().st_size:
                os.truncate(path, whole)

    def append(self, event: Event) -> None:
        """Append one event. Raises `OcheError` if the disk is full or the file cannot be written."""
        line = (to_json(event) + "\n").encode()
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise refused(self.path, error) from error


class MemoryJournal(Journal):
    """A journal that is kept in memory only, for searches without a directory."""

    def __init__(self, events: list[Event] | None = None) -> None:
        self.events = list(events or ())
        self.written: list[Event] = []

    def append(self, event: Event) -> None:
        self.written.append(json.loads(to_json(event)))


def read_journal(path: Path) -> list[Event]:
    """Return the events of the journal at ``path``; [] if there is none. A last line that was cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = parse_json(line)
            if not isinstance(event, dict) or event.get("event") not in ("start", "ask", "tell"):
                raise ValueError
        except ValueError:
            raise OcheError(
                f"{path} line {number} is damaged: found {line[:40]!r}, expected an event as JSON; restore it or start anew"
            ) from None
        events.append(event)
    return events
