"""The terminal output of a run: lines, warnings, progress with its numbers and the time left, and bars while data is read."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, TextIO

from oche.core.terminal_tables import fitted_table

Fields = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
Row = tuple[str, float, Mapping[str, Any]]  # title, progress in [0, 1], numbers by name
_LIVE_SECONDS = 0.2  # between two drawings of a live line
_LIVE_ROWS_SECONDS = 1.0  # between two drawings of several live lines, for which files are read
_BAR_WIDTH, _LEAST_BAR = 16, 6  # characters
_BESIDE = 32  # columns of a progress bar's counts and time, such as "123.4/567.8 MB 0:01:23", and the spaces between
_LONG_WORD = 24  # characters from which on a word is cut where it does not fit, instead of left out


class Log:
    """Print lines, warnings and progress to ``file`` (stdout by default).

    On a terminal progress is one live line. Elsewhere it is a plain line every ``every`` seconds. With ``quiet`` only
    warnings are printed.
    """

    mute = False  #: whether it prints nothing at all

    def __init__(self, quiet: bool = False, file: TextIO | None = None, every: float = 10.0) -> None:
        self.quiet, self.every = quiet, every
        self._given = file
        self.later = 0.0  #: seconds of work after the task that shows its progress, which "left" adds to the task's own
        self._console: Any = None  # rich's, while a live line is shown

    @property
    def file(self) -> TextIO:
        """The stream for lines and progress: the one given, or the current stdout."""
        return self._given or sys.stdout

    def say(self, text: str) -> None:
        """Print ``text``, unless quiet."""
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Print ``text`` on stderr, even when quiet."""
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
        """Yield a `Progress` that shows how far the task ``title`` is: in [0, 1], or out of ``total``."""
        if self.quiet:
            yield Progress(total, float("inf"), None)
        elif self._is_live:
            with self._live(title) as draw:
                yield from _drawn_to_the_end(Progress(total, _LIVE_SECONDS, draw, self.later))
        else:
            yield from _drawn_to_the_end(
                Progress(total, self.every, lambda share, words: self._print(_line(title, share, words)), self.later)
            )

    @contextmanager
    def lines(self) -> Iterator[Callable[[Callable[[], Sequence[Row]]], None]]:
        """Yield a function that draws one live line for each of several tasks, such as the trials of a study.

        That function takes a function that returns the rows. It draws at most once a second. Where the output is quiet or not a
        terminal it does nothing and does not ask for the rows.
        """
        if self.quiet or not self._is_live:
            yield lambda rows: None
            return
        drawn = float("-inf")

        def draw(rows: Callable[[], Sequence[Row]]) -> None:
            nonlocal drawn
            if monotonic() - drawn < _LIVE_ROWS_SECONDS:
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
        """Yield a function that draws lines of (title, progress, words) over the lines drawn before.

        With ``transient`` the lines are removed at the end.
        """
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(file=self.file)
        line = "━" if console.encoding.startswith("utf") else "="

        def text(title: str, share: float, words: list[str]) -> Text:
            title, length, rest = _fitted(title, [_percent(share), *words], console.width - 1)
            full = round(length * min(1.0, share))
            return Text.assemble(title, " ", (line * full, "green"), (line * (length - full), "bright_black"), rest)

        def show(rows: Sequence[tuple[str, float, list[str]]]) -> None:
            live.update(Text("\n").join(text(*row) for row in rows), refresh=True)

        with Live(console=console, auto_refresh=False, redirect_stderr=False, transient=transient) as live:
            self._console = console
            try:
                yield show
            finally:
                self._console = None

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], important: Sequence[str]) -> list[str]:
        """Print a table, unless quiet; return the names of the columns that the terminal has no room for.

        The first column is aligned left, the others right. On a terminal those columns are left out that come last in
        ``important``; columns not named there go first, from the right. Elsewhere every row is one line with all columns, for
        grep and cut.
        """
        if self.quiet:
            return []
        from rich.console import Console

        console = Console(file=self.file, width=None if self.file.isatty() else 1000, highlight=False)
        made, left_out = fitted_table(head, rows, important, console.width)
        console.print(made, markup=False)
        return left_out

    def paragraph(self, text: str) -> None:
        """Print ``text``, unless quiet; on a terminal its lines break between words."""
        if self.file.isatty():
            width = shutil.get_terminal_size().columns
            text = "\n".join(textwrap.fill(line, width, break_long_words=False) for line in text.split("\n"))
        self.say(text)


class SilentLog(Log):
    """Print nothing, not even warnings, because another process of the run prints them."""

    mute = True

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def warn(self, text: str) -> None:
        del text


Draw = Callable[[float, list[str]], None]


class Progress:
    """The progress of one task. Draws at most every ``every`` seconds, and at the first and the last update.

    Updates that draw nothing cost next to nothing.
    """

    def __init__(self, total: float | None, every: float, draw: Draw | None, later: float = 0.0) -> None:
        self._total, self._every, self._draw, self._later = total, every, draw, later
        self._start: tuple[float, float] | None = None
        self._drawn, self._pending = 0.0, None
        self._ended = False

    def update(self, done: float, fields: Fields | None = None, *, seconds: float | None = None, **more: Any) -> None:
        """Report that ``done`` of the total is done.

        ``seconds``: the time that the task counts so far; it is shown at the end. By default the time since the first update.

        ``fields``: numbers to show by name, or a function that returns them. The function is called only when a line is
        really drawn. Names that end in "acc" are shown in percent; None is left out.
        """
        if self._draw is None:
            return
        share, now = done / (self._total or 1.0), monotonic()
        first = self._start is None
        if self._start is None:
            self._start = (now, share)
        self._pending = (share, fields, more, seconds)
        if first or now - self._drawn >= self._every or (share >= 1 and not self._ended):
            self.flush()

    def flush(self) -> None:
        """Draw the newest update, if it has not been drawn yet."""
        if self._draw is None or self._start is None or self._pending is None:
            return
        (share, fields, more, seconds), self._pending = self._pending, None
        self._drawn, self._ended = monotonic(), share >= 1
        numbers = {**((fields() if callable(fields) else fields) or {}), **more}
        if share >= 1 and seconds is not None:
            time = format_duration(seconds)
        else:
            time = _remaining(share, self._start, self._drawn, self._later)
        self._draw(share, [word for word in (time, *(_word(k, v) for k, v in numbers.items())) if word])


def _drawn_to_the_end(progress: Progress) -> Iterator[Progress]:
    yield progress
    progress.flush()  # not after an exception: the fields may be in an inconsistent state


def _remaining(share: float, start: tuple[float, float], now: float, later: float) -> str:
    """Return "2:30 left", estimated from the rate since ``start`` = (time, share); once done the time it took.

    With ``later`` seconds of further work it is "2:30 of 12:30 left".
    """
    began, first = start
    if share >= 1:
        return format_duration(now - began)
    if share <= first:
        return ""
    own = (now - began) * (1 - share) / (share - first)
    whole = f" of {format_duration(own + later)}" if later else ""
    return f"{format_duration(own)}{whole} left"


def format_duration(seconds: float) -> str:
    """Return seconds as "0:07", "2:30" or "1:02:30"."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{s:02}" if minutes >= 60 else f"{minutes}:{s:02}"


def _percent(share: float) -> str:
    return f"{100 * min(1.0, share):3.0f} %"


def _line(title: str, share: float, words: list[str]) -> str:
    return "  ".join([title, _percent(share), *words])


def _fitted(title: str, words: list[str], width: int) -> tuple[str, int, str]:
    """Return (title, length of the bar, words as text) for one line of at most ``width`` columns.

    The first word and the time left always stay. First losses are left out, then numbers from the right; a long text is cut.
    A narrow line has a short bar. A title has at most two fifths of the line.
    """
    from rich.cells import cell_len, set_cell_size

    kept = 2 if len(words) > 1 and words[1].endswith(" left") else 1
    room = width - 1 - sum(2 + cell_len(word) for word in words[:kept])
    bar = max(_LEAST_BAR, min(_BAR_WIDTH, room - cell_len(title)))
    if cell_len(title) > (most := max(1, min(room - bar, 2 * width // 5))):
        title = f"{set_cell_size(title, most - 1).rstrip()}…"
    room -= bar + cell_len(title)
    shown = dict(enumerate(words[:kept]))
    for i in sorted(range(kept, len(words)), key=lambda i: (" loss " in words[i], i)):
        word = words[i]
        if cell_len(word) > _LONG_WORD and room - 2 < cell_len(word):
            word = f"{set_cell_size(word, room - 3).rstrip()}…" if room - 2 >= _LONG_WORD else word
        if 2 + cell_len(word) > room:
            break
        shown[i] = word
        room -= 2 + cell_len(word)
    return title, bar, "".join(f"  {shown[i]}" for i in sorted(shown))


def _word(name: str, value: Any) -> str:
    """Return "val acc 93.1 %" for ("val_acc", 0.931), or "" for a value that is not shown."""
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
    """Yield ``advance(n, total=None)`` for a progress bar on stderr that counts images, or the bytes of a ``download``.

    The total of a download is often known only later, so it can be given with an advance. Without ``show`` nothing is drawn. If
    stderr is not a terminal, a download prints one line.
    """
    if not show or not sys.stderr.isatty():
        if show and download:  # a log file should explain the wait
            print(text, file=sys.stderr, flush=True)
        yield lambda n, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = Console(stderr=True)
    count = DownloadColumn() if download else MofNCompleteColumn()
    room = console.width - _BESIDE  # for the text and the bar
    bar = max(_LEAST_BAR, min(40, room - len(text)))
    said = TextColumn(
        "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=room - bar)
    )
    columns = (said, BarColumn(bar_width=bar), count, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda n, total=None: progress.update(task, advance=n, **({} if total is None else {"total": total}))
