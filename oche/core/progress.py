"""A bar on the terminal's error stream while data is fetched or read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(text: str, total: int | None, show: bool, download: bool = False) -> Iterator[Callable[..., None]]:
    """Yields ``advance(n, total=None)``: images, or bytes of a ``download``, whose ``total`` is often known only later.

    Shows nothing unless ``show``; where stderr is no terminal, one line for a download.
    """
    if not show or not sys.stderr.isatty():
        if show and download:  # a log should say what takes so long
            print(text, file=sys.stderr, flush=True)
        yield lambda n, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if download else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda n, total=None: progress.update(task, advance=n, **({} if total is None else {"total": total}))
