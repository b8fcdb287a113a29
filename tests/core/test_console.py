"""Lines, warnings and progress: plain, quiet, and live on a terminal."""

import io
import os
import pty
import re
import select

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrow_tables import HEAD, IMPORTANT, LEFT_OUT
from narrow_tables import ROWS as CELLS
from oche.core import console as module
from oche.core.console import Log


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def lines(file):
    return file.getvalue().splitlines()


# --- plain ------------------------------------------------------------------------------------------------------------


def test_plain_lines(clock, capsys):
    file = io.StringIO()
    log = Log(file=file, every=10)
    log.say("hello")
    with log.progress("train") as bar:
        for step in range(101):
            bar.update(step / 100, {"train_loss": 2 - step / 100, "train_acc": step / 100, "epoch": step // 10})
            clock.now += 0.5
        clock.now += 30
    assert lines(file) == [
        "hello",
        "train    0 %  train loss 2.000  train acc 0.0 %  epoch 0",
        "train   20 %  0:40 left  train loss 1.800  train acc 20.0 %  epoch 2",
        "train   40 %  0:30 left  train loss 1.600  train acc 40.0 %  epoch 4",
        "train   60 %  0:20 left  train loss 1.400  train acc 60.0 %  epoch 6",
        "train   80 %  0:10 left  train loss 1.200  train acc 80.0 %  epoch 8",
        "train  100 %  0:50  train loss 1.000  train acc 100.0 %  epoch 10",
    ]
    log.warn("careful")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "careful\n")


def test_what_remains_counts_from_where_it_went_on(clock):
    file = io.StringIO()
    with Log(file=file, every=1).progress("search", total=200) as bar:
        for done in (100, 150):
            bar.update(done)
            clock.now += 3600
    assert lines(file) == ["search   50 %", "search   75 %  1:00:00 left"]


def test_work_after_the_task_counts_as_left(clock):
    file = io.StringIO()
    log = Log(file=file, every=1)
    log.later = 600
    with log.progress("train", total=4) as bar:
        for done in (0, 1):
            bar.update(done)
            clock.now += 60
        bar.update(4)
    assert lines(file) == ["train    0 %", "train   25 %  3:00 of 13:00 left", "train  100 %  2:00"]


def test_fields_are_asked_for_only_when_drawn(clock):
    asked = []
    file = io.StringIO()
    with Log(file=file, every=10).progress("x") as bar:
        for step in range(1, 1001):
            bar.update(step / 1000, lambda step=step: (asked.append(step), {"step": step})[1])
            clock.now += 1 / 16
    assert asked == [1, 161, 321, 481, 641, 801, 961, 1000]
    assert len(lines(file)) == 8


def test_the_last_update_is_drawn_at_the_end(clock):
    file = io.StringIO()
    with Log(file=file, every=10).progress("x") as bar:
        bar.update(0.1)
        bar.update(0.2, {"n": 5})
    assert lines(file) == ["x   10 %", "x   20 %  0:00 left  n 5"]


def test_nothing_more_is_drawn_after_a_failure(clock):
    file = io.StringIO()
    with pytest.raises(ZeroDivisionError), Log(file=file).progress("x") as bar:
        bar.update(0.1)
        bar.update(0.2, lambda: 1 / 0)
        raise ZeroDivisionError
    assert lines(file) == ["x   10 %"]


def test_values(clock):
    file = io.StringIO()
    fields = {"val_acc": None, "flag": True, "w_lr": 0.0123456, "name": "darts", "list": [1], "acc": 0.5}
    with Log(file=file).progress("x") as bar:
        bar.update(0, fields, more=3)
    assert lines(file) == ["x    0 %  w lr 0.01235  name darts  acc 50.0 %  more 3"]


def test_stdout_is_looked_up_when_it_is_needed(capsys):
    Log().say("é")
    assert capsys.readouterr().out == "é\n"


def test_quiet(capsys):
    log = Log(quiet=True)
    log.say("hello")
    with log.progress("x") as bar:
        bar.update(0, lambda: pytest.fail("asked for numbers that nobody sees"))
        bar.update(1, lambda: pytest.fail("asked for numbers that nobody sees"))
    log.warn("careful")
    assert capsys.readouterr() == ("", "careful\n")


# --- a terminal -------------------------------------------------------------------------------------------------------


class Terminal:
    """A pseudo terminal; ``file`` writes to it, `read` is what it has received."""

    def __init__(self):
        self.ours, theirs = pty.openpty()
        self.file = os.fdopen(theirs, "w", encoding="utf-8")

    def read(self) -> str:
        data = b""
        while select.select([self.ours], [], [], 0.05)[0]:
            data += os.read(self.ours, 65536)
        return data.decode()

    def close(self):
        self.file.close()
        os.close(self.ours)


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    yield terminal
    terminal.close()


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_live_line(terminal, clock):
    log = Log(file=terminal.file)
    with log.progress("search") as bar:
        bar.update(0.0, {"train_loss": 2.0})
        first = terminal.read()
        assert "search ━━━━━━━━━━━━━━━━    0 %  train loss 2.000" in plain(first)
        clock.now += 0.1
        bar.update(0.25, lambda: pytest.fail("too soon to draw"))
        clock.now += 60
        bar.update(0.5, {"train_loss": 1.0})
        second = terminal.read()
        assert "50 %  1:00 left  train loss 1.000" in plain(second)
        assert "\x1b[2K" in second  # the line before is erased
        log.say("a line above [bold]as it is[/bold]")
        third = plain(terminal.read())
        assert "a line above [bold]as it is[/bold]" in third
        assert third.rindex("50 %") > third.index("a line above")  # and the live line drawn anew below
    assert plain(terminal.read()).endswith("\n")
    log.say("after")
    assert terminal.read() == "after\r\n"


def test_live_lines_of_several_things(terminal, clock):
    log = Log(file=terminal.file)
    asked = []

    def rows():
        asked.append(clock.now)
        return [("1 of 3 runs", 0.5, {}), ("darts-0", 0.25, {"val_acc": 0.5, "true_acc": None})]

    with log.lines() as show:
        for _ in range(17):
            show(rows)
            clock.now += 0.125
        assert len(asked) == 3  # at most every second
        shown = plain(terminal.read())
        assert "1 of 3 runs ━━━━━━━━━━━━━━━━   50 %" in shown
        assert "darts-0     ━━━━━━━━━━━━━━━━   25 %  val acc 50.0 %" in shown and "true" not in shown
        log.say("darts-0: 93.27 %")
        above = plain(terminal.read())
        assert above.rindex("25 %") > above.index("darts-0: 93.27 %")
    assert terminal.read().count("\x1b[2K") >= 2  # both are erased: what is worth keeping has been said


def test_no_live_lines_elsewhere(clock):
    file = io.StringIO()
    for log in (Log(file=file), Log(quiet=True, file=file)):
        with log.lines() as show:
            show(lambda: pytest.fail("nobody looks"))
    assert file.getvalue() == ""


NUMBERS = {"epoch": 12, "train_loss": 1.25, "train_acc": 0.5, "val_loss": 1.5, "val_acc": 0.4375}


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (60, "epoch 12"),
        (80, "epoch 12  train acc 50.0 %"),
        (95, "epoch 12  train acc 50.0 %  val acc 43.8 %"),
        (110, "epoch 12  train loss 1.250  train acc 50.0 %  val acc 43.8 %"),
        (200, "epoch 12  train loss 1.250  train acc 50.0 %  val loss 1.500  val acc 43.8 %"),
    ],
)
def test_a_live_line_is_one_line_at_any_width(terminal, clock, monkeypatch, width, words):
    """Losses go first, then numbers from the right; what is left of the time stays."""
    monkeypatch.setenv("COLUMNS", str(width))
    with Log(file=terminal.file).progress("search") as bar:
        bar.update(0.25)
        terminal.read()
        clock.now += 60
        bar.update(0.5, NUMBERS)
        rows = [row for row in plain(terminal.read()).replace("\r", "").split("\n") if row]
    assert rows == [f"search ━━━━━━━━━━━━━━━━   50 %  2:00 left  {words}"] and len(rows[0]) < width


@pytest.mark.parametrize("width", [60, 72, 80, 100, 110, 132, 240])
@pytest.mark.parametrize("title", ["search", "a-very-long-name-of-a-run-directory-" * 3, "図" * 40])
def test_no_live_line_is_wider_than_the_terminal(terminal, clock, monkeypatch, width, title):
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", str(width))
    best = "beta-darts · search.epochs=50 · space.channels=16 · seed 3, test acc 97.22 %"
    with Log(file=terminal.file).lines() as show:
        show(lambda: [("1 of 3 trials", 0.5, {"left": "1:02:03", "best": best}), (title, 0.25, NUMBERS)])
        rows = [row for row in plain(terminal.read()).replace("\r", "").split("\n") if row]
    assert len(rows) == 2 and all(cell_len(row) < width for row in rows), rows
    assert "50 %" in rows[0] and "25 %" in rows[1]
    assert ("test acc 97.22 %" in rows[0]) == (width == 240) and (width < 100 or "best beta-darts" in rows[0])


@pytest.mark.parametrize("width", [60, 80, 110, 160])
@pytest.mark.parametrize("download", [False, True])
def test_a_bar_of_images_and_bytes_fits_the_terminal(terminal, monkeypatch, width, download):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stderr", terminal.file)
    text = "downloading https_example.org_a-very-long-name-of-an-archive.tar.gz"
    with module.progress_bar(text, 1_281_167, show=True, download=download) as advance:
        advance(640_000)
    rows = [row.rstrip() for row in re.split(r"[\r\n]+", plain(terminal.read())) if row.strip()]
    assert rows and all(len(row) <= width for row in rows) and all("640" in row or "0" in row for row in rows)
    assert any("downloading" in row for row in rows) and len({row[:8] for row in rows}) == 1


def test_the_end_shows_the_time_that_the_task_counts(clock):
    file = io.StringIO()
    with Log(file=file, every=10).progress("x") as bar:
        bar.update(0.5, seconds=61.0)
        clock.now += 300
        bar.update(1.0, seconds=122.4)
    assert lines(file) == ["x   50 %", "x  100 %  2:02"]


# --- tables


def test_a_table_in_a_pipe_has_every_column_on_one_line(capsys):
    assert Log().table(HEAD, CELLS, ("method",)) == []
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split("  ") == ["method", *rows[0].split("  ")[1:]] and len(rows) == 3
    assert re.split(r" {2,}", rows[1].strip()) == ["darts-2nd", "93.25 ± 0.41", "1.12", "3"]
    assert Log(quiet=True).table(HEAD, CELLS, ()) == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize(("width", "left_out"), LEFT_OUT)
def test_a_table_on_a_terminal_fits_and_names_what_it_leaves_out(terminal, monkeypatch, width, left_out):
    monkeypatch.setenv("COLUMNS", str(width))
    assert Log(file=terminal.file).table(HEAD, CELLS, IMPORTANT) == left_out
    rows = plain(terminal.read()).replace("\r", "").splitlines()
    assert all(len(row) <= width for row in rows)
    assert sum("darts-2nd" in row for row in rows) == 1 and any("gdas" in row for row in rows)


def test_no_live_line_on_a_dumb_terminal(terminal, clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Log(file=terminal.file).progress("search") as bar:
        bar.update(0.5)
    assert terminal.read() == "search   50 %\r\n"


def test_a_failure_gives_the_terminal_back(terminal, clock):
    log = Log(file=terminal.file)
    with pytest.raises(RuntimeError), log.progress("search") as bar:
        bar.update(0.5)
        raise RuntimeError
    shown = terminal.read()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    log.say("after")
    assert terminal.read() == "after\r\n"


@given(
    st.text(st.characters(exclude_categories=("C", "M")), max_size=90),
    st.lists(st.text(st.characters(exclude_categories=("C", "M")), min_size=1, max_size=50), max_size=7),
    st.integers(60, 250),
)
def test_a_line_of_progress_fits_whatever_it_says(title, words, width):
    from rich.cells import cell_len

    shown, bar, rest = module._fitted(title, [" 50 %", *words], width - 1)
    assert cell_len(shown) + 1 + bar + cell_len(rest) <= width - 1 and bar >= 6 and rest.startswith("   50 %")
