"""What a run says while it works: lines, warnings, and progress with its numbers and the time left."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, TextIO

from oche.core.signals import Interrupt
from oche.core.tensorboard import tensorboard_writer

__all__ = ["Interrupt", "Log", "SilentLog", "Progress", "tensorboard_writer"]

Fields = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
Row = tuple[str, float, Mapping[str, Any]]  # title, share of 1, numbers by name
_LIVE = 0.2  # seconds between two drawings on a terminal
_LIVE_LINES = 1.0  # the same for several lines, which files are read for
_BAR = 16  # characters


class Log:
    """Prints to ``file`` (stdout by default): a live line of progress on a terminal, else a plain one every ``every`` seconds.

    ``quiet`` prints nothing but warnings.
    """

    mute = False  #: whether it says nothing at all

    def __init__(self, quiet: bool = False, file: TextIO | None = None, every: float = 10.0) -> None:
        self.quiet, self.every = quiet, every
        self._given = file
        self._console: Any = None  # rich's, while a live line is shown

    @property
    def file(self) -> TextIO:
        return self._given or sys.stdout

    def say(self, text: str) -> None:
        """Prints ``text``."""
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Prints ``text`` on stderr, even when quiet."""
        if self._console is not None and sys.stderr.isatty():
            self._print(text)  # above the live line of the same terminal
        else:
            print(text, file=sys.stderr, flush=True)

    def _print(self, text: str) -> None:
        if self._console is None:
            print(text, file=self.file, flush=True)
        else:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: float | None = None) -> Iterator[Progress]:
        """Within, `Progress.update` shows how far ``title`` is: in [0, 1], or of ``total``."""
        if self.quiet:
            yield Progress(total, float("inf"), None)
        elif self._is_live:
            with self._live(title) as draw:
                yield from _closed(Progress(total, _LIVE, draw))
        else:
            yield from _closed(
                Progress(total, self.every, lambda share, words: self._print(_line(title, share, words)))
            )

    @contextmanager
    def lines(self) -> Iterator[Callable[[Callable[[], Sequence[Row]]], None]]:
        """Within, a live line for each of several things under way: what is yielded draws the rows that it is given a
        function of, at most every second, on a terminal; elsewhere it does nothing, and does not call it."""
        if self.quiet or not self._is_live:
            yield lambda rows: None
            return
        drawn = float("-inf")

        def draw(rows: Callable[[], Sequence[Row]]) -> None:
            nonlocal drawn
            if monotonic() - drawn < _LIVE_LINES:
                return
            drawn, found = monotonic(), rows()
            width = max(len(title) for title, *_ in found)
            show([
                (f"{title:<{width}}", share, [word for pair in numbers.items() if (word := _word(*pair))])
                for title, share, numbers in found
            ])  # fmt: skip

        with self._screen(transient=True) as show:
            yield draw

    @property
    def _is_live(self) -> bool:
        return self.file.isatty() and os.environ.get("TERM") != "dumb"

    @contextmanager
    def _live(self, title: str) -> Iterator[Draw]:
        with self._screen() as show:
            yield lambda share, words: show([(title, share, words)])

    @contextmanager
    def _screen(self, transient: bool = False) -> Iterator[Callable[[Sequence[tuple[str, float, list[str]]]], None]]:
        """Yields what draws lines of (title, share, words) over those drawn before; ``transient``: they go at the end."""
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(file=self.file)
        line = "━" if console.encoding.startswith("utf") else "="

        def text(title: str, share: float, words: list[str]) -> Text:
            full = round(_BAR * min(1.0, share))
            head = len(title) + 1 + _BAR
            bar = (title, " ", (line * full, "green"), (line * (_BAR - full), "bright_black"))
            return Text.assemble(*bar, _packed([_percent(share), *words], head, console.width - 1))

        def show(rows: Sequence[tuple[str, float, list[str]]]) -> None:
            live.update(Text("\n").join(text(*row) for row in rows), refresh=True)

        with Live(console=console, auto_refresh=False, redirect_stderr=False, transient=transient) as live:
            self._console = console
            try:
                yield show
            finally:
                self._console = None


class SilentLog(Log):
    """Says nothing, not even warnings: another process does."""

    mute = True

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def warn(self, text: str) -> None:
        del text


Draw = Callable[[float, list[str]], None]


class Progress:
    """Draws at most every ``every`` seconds, and at the first and the last update; costs next to nothing in between."""

    def __init__(self, total: float | None, every: float, draw: Draw | None) -> None:
        self._total, self._every, self._draw = total, every, draw
        self._start: tuple[float, float] | None = None
        self._drawn, self._pending = 0.0, None
        self._ended = False

    def update(self, done: float, fields: Fields | None = None, **more: Any) -> None:
        """``done`` of the work is done. ``fields``: numbers to show by name, or a function that gives them.

        The function is called only when a line is really drawn. Names in "acc" are shown in percent; None is left out.
        """
        if self._draw is None:
            return
        share, now = done / (self._total or 1.0), monotonic()
        first = self._start is None
        if self._start is None:
            self._start = (now, share)
        self._pending = (share, fields, more)
        if first or now - self._drawn >= self._every or (share >= 1 and not self._ended):
            self.flush()

    def flush(self) -> None:
        """Draws the newest update, if it is not drawn yet."""
        if self._draw is None or self._start is None or self._pending is None:
            return
        (share, fields, more), self._pending = self._pending, None
        self._drawn, self._ended = monotonic(), share >= 1
        numbers = {**((fields() if callable(fields) else fields) or {}), **more}
        time = _remaining(share, self._start, self._drawn)
        self._draw(share, [word for word in (time, *(_word(k, v) for k, v in numbers.items())) if word])


def _closed(progress: Progress) -> Iterator[Progress]:
    yield progress
    progress.flush()  # not after an exception: what the fields are made of may be in pieces


def _remaining(share: float, start: tuple[float, float], now: float) -> str:
    began, first = start
    if share >= 1:
        return format_duration(now - began)
    return f"{format_duration((now - began) * (1 - share) / (share - first))} left" if share > first else ""


def format_duration(seconds: float) -> str:
    """ "0:07", "2:30", "1:02:30"."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{s:02}" if minutes >= 60 else f"{minutes}:{s:02}"


def _percent(share: float) -> str:
    return f"{100 * min(1.0, share):3.0f} %"


def _line(title: str, share: float, words: list[str]) -> str:
    return "  ".join([title, _percent(share), *words])


def _packed(words: list[str], column: int, width: int) -> str:
    """``words`` two spaces apart, from ``column`` on, on as many lines as ``width`` asks for; none is cut in two."""
    text = ""
    for word in words:
        wraps = column + 2 + len(word) > width
        text += ("\n  " if wraps else "  ") + word
        column = (0 if wraps else column) + 2 + len(word)
    return text


def _word(name: str, value: Any) -> str:
    label = name.replace("_", " ")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    if isinstance(value, float):
        value = (
            f"{100 * value:.1f} %"
            if name.endswith("acc")
            else f"{value:.3f}"
            if name.endswith("loss")
            else f"{value:.4g}"
        )
    return f"{label} {value}"


@contextmanager
def progress_bar(text: str, total: int | None, show: bool, download: bool = False) -> Iterator[Callable[..., None]]:
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
