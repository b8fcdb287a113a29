"""Facts about a machine, and the page of `oche doctor`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "wrong"]
WIDTH = 80


@dataclass(frozen=True)
class Fact:
    """One finding. ``level`` "wrong": something that oche needs does not work; "note": it works, and could do more.

    ``install``: what to do about it, "" for nothing.
    """

    part: str
    name: str
    value: str
    level: Level = "ok"
    install: str = ""


def exit_code(facts: Sequence[Fact]) -> int:
    """Return 1 if anything that oche needs does not work, else 0."""
    return int(any(fact.level == "wrong" for fact in facts))


def plain(facts: Sequence[Fact]) -> dict[str, Any]:
    """Return the facts as plain values, for --json."""
    return {"works": not exit_code(facts), "facts": [vars(fact) for fact in facts], "install": advice(facts)}


def advice(facts: Sequence[Fact]) -> list[str]:
    """Return what to do, each thing once, the most important first."""
    found = [fact.install for level in ("wrong", "note") for fact in facts if fact.level == level and fact.install]
    return [*dict.fromkeys(found)]


MARKS: Mapping[Level, str] = {"ok": " ", "note": "-", "wrong": "!"}


def page(facts: Sequence[Fact], width: int = WIDTH) -> str:
    """Return the facts as text of at most ``width`` columns. "!" marks what is wrong, "-" what could be better."""
    lines: list[str] = []
    part = ""
    for fact in facts:
        if fact.part != part:
            lines += [*([""] if part else []), fact.part]
            part = fact.part
        head = f"{MARKS[fact.level]} {fact.name}"
        lines += textwrap.wrap(
            fact.value, width, initial_indent=f"{head:<18} ", subsequent_indent=" " * 19, break_on_hyphens=False
        ) or [head]
    todo = advice(facts)
    lines += ["", "what to install" if todo else "nothing to install"]
    for text in todo:
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    wrong = [fact.name for fact in facts if fact.level == "wrong"]
    lines += ["", f"wrong: {', '.join(wrong)}" if wrong else "everything that oche needs works here"]
    return "\n".join(
        line
        for text in lines
        for line in (textwrap.wrap(text, width, subsequent_indent="  ") if len(text) > width else [text])
    )
