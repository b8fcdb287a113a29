"""Tables that fit a terminal: columns that there is no room for are left out, the least important first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def fitted_table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], important: Sequence[str], width: int, left: Sequence[str] = ()
) -> tuple[Any, list[str]]:
    """Return a table of rich that is at most ``width`` columns wide, and the names of the columns that it leaves out.

    ``important``: the columns that are kept first, the most important one first; the others follow in their order. Cells are
    text, or `rich.text.Text`, and stay on one line, but for those of the first column, which break between words. The first
    column and those in ``left`` are aligned left.
    """
    from rich.cells import cell_len
    from rich.table import Table

    texts = {name: [str(row[i]) for row in rows] for i, name in enumerate(head)}
    whole = {name: max(map(cell_len, [name, *texts[name]])) for name in head}
    parts = {name: " ".join(texts[name]).split() if name == head[0] else texts[name] for name in head}
    least = {name: max(map(cell_len, [*name.split(), *parts[name]])) for name in head}
    shown, room = set(), width + 2
    for name in [*important, *(name for name in head if name not in important)]:
        if room < least[name] + 2 and shown:
            break
        shown.add(name)
        room -= least[name] + 2
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    kept = [i for i, name in enumerate(head) if name in shown]
    for i in kept:
        name = head[i]
        given = min(
            whole[name], least[name] + max(0, room)
        )  # a head, or the name of a row, on fewer lines where there is room
        room -= given - least[name]
        made.add_column(name, justify="left" if i == 0 or name in left else "right", width=min(given, width))
    for row in rows:
        made.add_row(*(row[i] for i in kept))
    return made, [name for name in head if name not in shown]
